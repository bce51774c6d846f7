#include "trainer/interference/diagnosis.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>

#include "trainer/errors.h"
#include "trainer/record/json_field.h"
#include "trainer/record/metrics.h"

namespace espalier {
namespace {

using nlohmann::json;

StageDiagnosis& diagnosis_of(std::vector<StageDiagnosis>& all, const InterferenceRecord& record) {
  for (StageDiagnosis& each : all) {
    // Of other objectives where the config was changed on the way: the newest count.
    if (each.stage != record.stage) continue;
    if (each.objectives != record.objectives) each.records.clear();
    return each;
  }
  return all.emplace_back();
}

// One estimate for each place in a list of the measures.
std::vector<Estimate> estimates_of(const std::vector<const PlaceMeasure*>& measures, size_t count,
                                   const std::function<double(const PlaceMeasure&, size_t)>& of) {
  std::vector<Estimate> estimates;
  for (size_t i = 0; i < count; ++i) {
    std::vector<double> values;
    for (const PlaceMeasure* measure : measures) values.push_back(of(*measure, i));
    estimates.push_back(estimate_of(values));
  }
  return estimates;
}

PlaceEstimate estimate_place(const std::vector<const PlaceMeasure*>& measures, size_t objectives) {
  const size_t pairs = InterferenceRecord::pairs_of(objectives).size();
  PlaceEstimate estimate;
  estimate.place = measures.back()->place;
  estimate.is_projection = measures.back()->is_projection;
  estimate.norms =
      estimates_of(measures, objectives, [](const auto& m, size_t i) { return m.norms[i]; });
  estimate.split_half =
      estimates_of(measures, objectives, [](const auto& m, size_t i) { return m.split_half[i]; });
  estimate.cosines =
      estimates_of(measures, pairs, [](const auto& m, size_t i) { return m.cosines[i]; });
  estimate.halves =
      estimates_of(measures, pairs, [](const auto& m, size_t i) { return m.half_cosines[i]; });
  estimate.beyond = estimates_of(measures, pairs, beyond_baseline);
  return estimate;
}

void judge(StageDiagnosis& stage) {
  stage.judged_from = stage.records.back().step / 2;
  std::vector<const InterferenceRecord*> judged;
  for (const InterferenceRecord& record : stage.records) {
    if (record.step > stage.judged_from) judged.push_back(&record);
  }
  stage.judged = std::ssize(judged);
  std::vector<ParameterPlace> places;
  for (const PlaceMeasure& measure : stage.records.back().places) places.push_back(measure.place);
  for (const ParameterPlace& place : places) {
    std::vector<const PlaceMeasure*> measures;
    for (const InterferenceRecord* record : judged) {
      for (const PlaceMeasure& measure : record->places) {
        if (measure.place == place) measures.push_back(&measure);
      }
    }
    stage.places.push_back(estimate_place(measures, stage.objectives.size()));
  }
  std::map<std::string, std::vector<double>> ratios;
  for (const InterferenceRecord* record : judged) {
    for (const auto& [group, ratio] : record->update_ratios) ratios[group].push_back(ratio);
  }
  for (const auto& [group, values] : ratios) stage.update_ratios[group] = estimate_of(values);
  stage.advice = advise_on_forks(stage.places, stage.branches, stage.judged);
}

double cost_share_of(const std::vector<InterferenceRecord>& records) {
  double cost = 0, time = 0;
  for (const InterferenceRecord& record : records) {
    if (record.step_s <= 0) continue;
    cost += record.cost_s;
    time += record.step_s * static_cast<double>(record.next_step - (record.step - record.steps));
  }
  return time > 0 ? cost / time : kUnknown;
}

void read_held_out(const std::string& run_directory, std::vector<StageDiagnosis>& stages) {
  std::ifstream file(run_directory + "/evaluation/history.jsonl");
  std::map<std::string, std::map<std::string, std::map<double, double>>> found;
  for (std::string text; std::getline(file, text);) {
    const json line = json::parse(text, nullptr, /*allow_exceptions=*/false);
    std::string stage;
    double step = 0;
    std::map<std::string, double> losses;
    read_field(line, "stage", &stage);
    read_field(line, "step", &step);
    read_field(line, "validation", &losses);
    for (const auto& [name, loss] : losses) found[stage][name][step] = loss;
  }
  for (StageDiagnosis& stage : stages) {
    for (const auto& [name, losses] : found[stage.stage]) {
      stage.held_out[name] = {losses.begin(), losses.end()};
    }
  }
}

json json_of_estimate(const Estimate& estimate) {
  return {
      {"mean", estimate.mean}, {"standard_error", estimate.error}, {"measures", estimate.measures}};
}

json json_of_advice(const ForkAdvice& advice, const StageDiagnosis& stage) {
  json pairs = json::array();
  for (const PairAdvice& pair : advice.pairs) {
    json layers = json::array();
    for (const LayerVote& vote : pair.layers) {
      layers.push_back({{"layer", vote.layer},
                        {"projections", vote.projections},
                        {"below_zero", vote.below},
                        {"above_zero", vote.above},
                        {"cosine", json_of_estimate(vote.cosine)},
                        {"beyond_baseline", json_of_estimate(vote.beyond)}});
    }
    pairs.push_back(
        {{"objectives",
          {stage.objectives[pair.objectives.first], stage.objectives[pair.objectives.second]}},
         {"can_be_parted", pair.can_be_parted},
         {"fork", pair.fork ? json(*pair.fork) : json()},
         {"layers", std::move(layers)}});
  }
  const bool is_fork = advice.verdict == ForkAdvice::Verdict::kFork;
  return {{"stack", advice.stack},
          {"layers", advice.layers},
          {"measures", advice.measures},
          {"verdict", name_of(advice.verdict)},
          {"fork", is_fork ? json(advice.fork) : json()},
          {"pairs", std::move(pairs)}};
}

}  // namespace

std::string StageDiagnosis::pair_name(size_t pair) const {
  const auto [a, b] = InterferenceRecord::pairs_of(objectives.size()).at(pair);
  return objectives[a] + ", " + objectives[b];
}

std::vector<StageDiagnosis> diagnose_run(const std::string& run_directory) {
  namespace fs = std::filesystem;
  if (!fs::exists(run_directory + "/config.toml") && !fs::exists(run_directory + "/run.json")) {
    throw ConfigError(run_directory + " is not a run directory: it has no config.toml");
  }
  std::vector<StageDiagnosis> stages;
  for (const json& line : read_by_step(interference_path(run_directory))) {
    InterferenceRecord record = interference_record_from_json(line);
    if (record.objectives.size() < 2 || record.places.empty()) continue;
    StageDiagnosis& stage = diagnosis_of(stages, record);
    stage.stage = record.stage;
    stage.objectives = record.objectives;
    stage.branches = record.branches;
    stage.records.push_back(std::move(record));
  }
  if (stages.empty()) {
    throw ConfigError(run_directory +
                      " has no measures of interference; train with --set "
                      "interference.every_steps=10 (a stage whose objectives share parameters; the "
                      "weights are the same with it), also to go on with this run");
  }
  for (StageDiagnosis& stage : stages) {
    judge(stage);
    stage.cost_share = cost_share_of(stage.records);
  }
  for (const json& line : read_by_step(alignment_path(run_directory))) {
    const AlignmentRecord record = alignment_record_from_json(line);
    for (StageDiagnosis& stage : stages) {
      if (stage.stage == record.stage) stage.alignment.push_back(record);
    }
  }
  read_held_out(run_directory, stages);
  return stages;
}

json to_json(const StageDiagnosis& stage) {
  json advice = json::array(), ratios = json::object(), alignment = json();
  for (const ForkAdvice& each : stage.advice) advice.push_back(json_of_advice(each, stage));
  for (const auto& [group, ratio] : stage.update_ratios) ratios[group] = json_of_estimate(ratio);
  if (!stage.alignment.empty()) alignment = to_json(stage.alignment.back());
  return {{"stage", stage.stage},
          {"objectives", stage.objectives},
          {"branches", stage.branches},
          {"measures", stage.records.size()},
          {"judged", stage.judged},
          {"judged_from_step", stage.judged_from},
          {"cost_share", stage.cost_share},
          {"advice", std::move(advice)},
          {"update_ratio", std::move(ratios)},
          {"held_out", stage.held_out},
          {"alignment", std::move(alignment)}};
}

}  // namespace espalier
