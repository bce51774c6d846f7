#include "trainer/run_evaluation.h"

#include <spdlog/spdlog.h>

#include <chrono>

#include "trainer/errors.h"
#include "trainer/host/collective_text.h"
#include "trainer/record/evaluation_files.h"
#include "trainer/record/run_directory.h"

namespace espalier {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Found {
  double value = kUnknown;
  bool is_lower_better = false;
};

// The number of that path in the sections; ConfigError with those there are.
Found find_number(const std::vector<Section>& sections, const std::string& path,
                  const std::string& best_mode) {
  std::string known;
  for (const Section& section : sections) {
    for (const Metric& metric : section.metrics) {
      const std::string name = section.name + "/" + metric.name;
      if (name == path) return {metric.value, metric.is_lower_better};
      known += (known.empty() ? "" : ", ") + name;
    }
    for (const auto& [name, value] : numbers_of(section)) {
      if (section.name + "/" + name == path && best_mode != "auto") return {value, false};
    }
  }
  throw ConfigError(
      "checkpoint.best = \"" + path + "\": the evaluation has no such metric" +
      (best_mode == "auto" ? " (a number of a series needs checkpoint.best_mode)" : "") +
      "; there are " + known);
}

}  // namespace

RunEvaluation::RunEvaluation(NamedThings& things, Stage& stage, RunObserver& observer,
                             EvaluationRecord record)
    : things_(things),
      stage_(stage),
      observer_(observer),
      record_(std::move(record)),
      watched_(watched_metric(things.config(), stage.config())),
      alignment_(AlignmentProfile::make(things, stage)) {}

void RunEvaluation::prepare(bool is_first_step) {
  if (things_.config().evaluation.every_steps == 0) return;
  validation_ = std::make_unique<Validation>(things_, stage_);
  if (validation_->is_empty()) {
    if (is_first()) {
      spdlog::info("stage {}: no validation split, so no losses on held-out data",
                   stage_.config().name);
    }
    validation_.reset();
  }
  if (watched_.empty()) return;
  if (!watched_.starts_with("validation/")) {
    if (is_first_step) interim(0);  // its sections name what there is
    return;
  }
  std::string known;
  if (validation_) {
    for (const std::string& name : validation_->names()) {
      if (name == watched_) return;
      known += (known.empty() ? "" : ", ") + name;
    }
  }
  throw ConfigError("checkpoint.best = \"" + watched_ + "\": stage " + stage_.config().name +
                    " has no such loss; there are " + (known.empty() ? "none" : known));
}

RunEvaluation::Verdict RunEvaluation::interim(int64_t step) {
  observer_.on_phase(Phase::kEvaluate);
  const auto start = Clock::now();
  const Numbers losses = validate();
  const std::vector<Section> found = sections(step, /*is_final=*/false);
  measure_alignment(step);
  write(step, /*is_final=*/false, seconds_since(start), found, losses);
  return judge(step, found, losses);
}

RunEvaluation::Verdict RunEvaluation::last_validation(int64_t step) {
  if (!validation_) return {};
  if (!watched_.empty() && !watched_.starts_with("validation/")) return interim(step);
  observer_.on_phase(Phase::kEvaluate);
  const auto start = Clock::now();
  const Numbers losses = validate();
  write(step, /*is_final=*/false, seconds_since(start), {}, losses);
  return judge(step, {}, losses);
}

void RunEvaluation::final(int64_t step) {
  observer_.on_phase(Phase::kEvaluate);
  const auto start = Clock::now();
  const std::vector<Section> found = sections(step, /*is_final=*/true);
  measure_alignment(step);
  write(step, /*is_final=*/true, seconds_since(start), found, {});
}

RunEvaluation::Numbers RunEvaluation::validate() {
  if (!validation_) return {};
  return validation_->measure(things_.config().evaluation.max_samples);
}

void RunEvaluation::measure_alignment(int64_t step) {
  if (!alignment_) return;
  AlignmentRecord record = alignment_->measure();
  if (record.branches.empty() || !is_first()) return;
  record.step = step;
  record.global_step = record_.global_step_before + step;
  record_.log->alignment(to_json(record));
}

std::vector<Section> RunEvaluation::sections(int64_t step, bool is_final) {
  const RunConfig& config = things_.config();
  return stage_.evaluate({.directory = RunDirectory::images(config.directory),
                          .picture_prefix = picture_prefix(stage_.config().name, step),
                          .is_final = is_final,
                          .split = is_final ? "test" : "validation",
                          .max_samples = is_final ? 0 : config.evaluation.max_samples});
}

void RunEvaluation::write(int64_t step, bool is_final, double seconds,
                          const std::vector<Section>& sections, const Numbers& losses) {
  if (!is_first()) return;
  const std::string& name = stage_.config().name;
  const int64_t global_step = record_.global_step_before + step;
  record_.log->evaluation(name, step, global_step, sections, losses);
  if (is_final) {
    write_evaluation(things_.config().directory, name, step, global_step, sections);
  }
  std::string line;
  for (const auto& [loss, value] : losses) line += fmt::format("  {} {:.4f}", loss, value);
  if (!line.empty()) spdlog::info("{} step {}:{}", name, step, line);
  record_.event({{"event", "evaluation"},
                 {"stage", name},
                 {"stage_step", step},
                 {"is_final", is_final},
                 {"seconds", seconds}});
}

// Sections are known to rank 0 alone, so it decides for all.
RunEvaluation::Verdict RunEvaluation::judge(int64_t step, const std::vector<Section>& sections,
                                            const Numbers& losses) {
  if (watched_.empty()) return {};
  const RunConfig& config = things_.config();
  const std::string& mode = config.checkpoint.best_mode;
  const std::string decided = on_rank_0(things_.comm(), [&] {
    const Found found = watched_.starts_with("validation/") ? Found{losses.at(watched_), true}
                                                            : find_number(sections, watched_, mode);
    const bool is_lower_better = mode == "auto" ? found.is_lower_better : mode == "min";
    const bool is_best = best_.note(found.value, is_lower_better, step);
    return json{{"is_best", is_best}, {"best", best_.state()}}.dump();
  });
  const json verdict = json::parse(decided);
  best_.restore(verdict.at("best"));
  const int64_t patience = stage_.config().early_stop_patience;
  const bool is_best = verdict.at("is_best");
  if (is_best && is_first()) {
    spdlog::info("{} step {}: {} = {:.6g} is the best so far", stage_.config().name, step, watched_,
                 best_.value());
  }
  const bool stops_early = patience > 0 && best_.without_improvement() >= patience;
  if (stops_early) say_early_end(step);
  return {is_best && watched_ == config.checkpoint.best, stops_early};
}

void RunEvaluation::say_early_end(int64_t step) {
  record_.event({{"event", "stopped_early"},
                 {"stage", stage_.config().name},
                 {"stage_step", step},
                 {"metric", watched_},
                 {"best_step", best_.step()},
                 {"best", best_.value()}});
  if (!is_first()) return;
  spdlog::info(
      "stage {} ends early at step {}: {} was not better in {} evaluations; the best, "
      "{:.6g}, is of step {}",
      stage_.config().name, step, watched_, best_.without_improvement(), best_.value(),
      best_.step());
}

}  // namespace espalier
