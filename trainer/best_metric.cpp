#include "trainer/best_metric.h"

#include <algorithm>
#include <cmath>

#include "trainer/errors.h"
#include "trainer/record/json_field.h"

namespace espalier {
namespace {

const std::string kValidation = "validation/";

bool is_measured(const RunConfig& config, const ObjectiveConfig& objective) {
  const std::string& data = objective.settings->data;
  return data.empty() || !config.data_named(data, "an objective").validation.empty();
}

// "caption" of "validation/caption", "caption/exact_unseen"; "total" of "validation/total".
std::string objective_of(const std::string& metric) {
  const size_t begin = metric.starts_with(kValidation) ? kValidation.size() : 0;
  return metric.substr(begin, metric.find('/', begin) - begin);
}

bool has_metric(const RunConfig& config, const StageConfig& stage, const std::string& metric) {
  const std::string wanted = metric == kValidation + "total" ? "" : objective_of(metric);
  return std::any_of(stage.objectives.begin(), stage.objectives.end(), [&](const auto& objective) {
    return (wanted.empty() || objective.name == wanted) && is_measured(config, objective);
  });
}

std::string names_there_are(const RunConfig& config) {
  std::string names = kValidation + "total";
  for (const StageConfig& stage : config.stages) {
    for (const ObjectiveConfig& objective : stage.objectives) {
      if (!is_measured(config, objective)) continue;
      names += ", " + kValidation + objective.name + ", " + objective.name + "/…";
    }
  }
  return names;
}

}  // namespace

std::string watched_metric(const RunConfig& config, const StageConfig& stage) {
  const std::string& best = config.checkpoint.best;
  if (!best.empty() && has_metric(config, stage, best)) return best;
  return stage.early_stop_patience > 0 ? kValidation + "total" : "";
}

void validate_best_metric(const RunConfig& config) {
  const std::string& best = config.checkpoint.best;
  const auto wants_early_stop =
      std::find_if(config.stages.begin(), config.stages.end(),
                   [](const auto& s) { return s.early_stop_patience > 0; });
  const bool stops_early = wants_early_stop != config.stages.end();
  if (best.empty() && !stops_early) return;
  const std::string key = best.empty() ? "stage." + wants_early_stop->name + ".early_stop_patience"
                                       : "checkpoint.best = \"" + best + "\"";
  if (config.evaluation.every_steps == 0) {
    throw ConfigError(key + " needs evaluations while the run trains: set evaluation.every_steps");
  }
  const bool known = best.empty() || std::any_of(config.stages.begin(), config.stages.end(),
                                                 [&](const auto& stage) {
                                                   return has_metric(config, stage, best);
                                                 });
  if (!known) {
    throw ConfigError(key +
                      ": no stage measures that, or its data have no validation split; there "
                      "are " +
                      names_there_are(config));
  }
  for (const StageConfig& stage : config.stages) {
    if (stage.early_stop_patience == 0) continue;
    if (has_metric(config, stage, best.empty() ? kValidation + "total" : best)) continue;
    throw ConfigError("stage." + stage.name + ".early_stop_patience: the stage does not measure " +
                      (best.empty() ? "validation losses: its data have no validation split"
                                    : "checkpoint.best = \"" + best + "\""));
  }
}

bool BestSoFar::note(double value, bool is_lower_better, int64_t step) {
  const bool is_better =
      std::isfinite(value) && (step_ < 0 || (is_lower_better ? value < value_ : value > value_));
  if (!is_better) {
    ++without_improvement_;
    return false;
  }
  step_ = step;
  value_ = value;
  without_improvement_ = 0;
  return true;
}

nlohmann::json BestSoFar::state() const {
  return {{"step", step_}, {"value", value_}, {"without_improvement", without_improvement_}};
}

void BestSoFar::restore(const nlohmann::json& state) {
  read_field(state, "step", &step_);
  read_field(state, "value", &value_);
  read_field(state, "without_improvement", &without_improvement_);
}

}  // namespace espalier
