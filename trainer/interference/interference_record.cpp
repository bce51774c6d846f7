#include "trainer/interference/interference_record.h"

#include "trainer/record/json_field.h"

namespace espalier {
namespace {

using nlohmann::json;

// Numbers that are not finite become null when the JSON is written.
std::vector<double> numbers_from(const json& object, const char* name, size_t count) {
  std::vector<double> numbers;
  const json* list = object.is_object() && object.contains(name) ? &object.at(name) : nullptr;
  for (size_t i = 0; list != nullptr && list->is_array() && i < list->size(); ++i) {
    numbers.push_back((*list)[i].is_number() ? (*list)[i].get<double>() : kUnknown);
  }
  numbers.resize(count, kUnknown);
  return numbers;
}

std::vector<std::string> texts_from(const json& object, const char* name) {
  std::vector<std::string> texts;
  if (!object.is_object() || !object.contains(name) || !object.at(name).is_array()) return texts;
  for (const json& text : object.at(name)) {
    texts.push_back(text.is_string() ? text.get<std::string>() : "");
  }
  return texts;
}

const json& list_of(const json& object, const char* name) {
  static const json none = json::array();
  const bool is_there = object.is_object() && object.contains(name) && object.at(name).is_array();
  return is_there ? object.at(name) : none;
}

json to_json(const PlaceMeasure& measure) {
  return {{"stack", measure.place.stack},
          {"layer", measure.place.layer},
          {"projection", measure.place.projection},
          {"parameters", measure.parameters},
          {"is_projection", measure.is_projection},
          {"norm", measure.norms},
          {"cosine", measure.cosines},
          {"half_cosine", measure.half_cosines},
          {"split_half", measure.split_half}};
}

PlaceMeasure place_from(const json& object, size_t objectives, size_t pairs) {
  PlaceMeasure measure;
  read_field(object, "stack", &measure.place.stack);
  read_field(object, "layer", &measure.place.layer);
  read_field(object, "projection", &measure.place.projection);
  read_field(object, "parameters", &measure.parameters);
  read_field(object, "is_projection", &measure.is_projection);
  measure.norms = numbers_from(object, "norm", objectives);
  measure.cosines = numbers_from(object, "cosine", pairs);
  measure.half_cosines = numbers_from(object, "half_cosine", pairs);
  measure.split_half = numbers_from(object, "split_half", objectives);
  return measure;
}

}  // namespace

std::vector<std::pair<size_t, size_t>> InterferenceRecord::pairs_of(size_t objectives) {
  std::vector<std::pair<size_t, size_t>> pairs;
  for (size_t a = 0; a < objectives; ++a) {
    for (size_t b = a + 1; b < objectives; ++b) pairs.emplace_back(a, b);
  }
  return pairs;
}

double beyond_baseline(const PlaceMeasure& measure, size_t pair) {
  const auto [a, b] = InterferenceRecord::pairs_of(measure.split_half.size()).at(pair);
  return measure.half_cosines.at(pair) - (measure.split_half[a] + measure.split_half[b]) / 2;
}

json to_json(const InterferenceRecord& record) {
  json places = json::array();
  for (const PlaceMeasure& place : record.places) places.push_back(to_json(place));
  return {{"stage", record.stage},
          {"step", record.step},
          {"global_step", record.global_step},
          {"steps", record.steps},
          {"objectives", record.objectives},
          {"branches", record.branches},
          {"places", std::move(places)},
          {"update_ratio", record.update_ratios},
          {"cost_s", record.cost_s},
          {"step_s", record.step_s},
          {"next_step", record.next_step}};
}

InterferenceRecord interference_record_from_json(const json& object) {
  InterferenceRecord record;
  read_field(object, "stage", &record.stage);
  read_field(object, "step", &record.step);
  read_field(object, "global_step", &record.global_step);
  read_field(object, "steps", &record.steps);
  record.objectives = texts_from(object, "objectives");
  record.branches = texts_from(object, "branches");
  record.branches.resize(record.objectives.size());
  read_field(object, "update_ratio", &record.update_ratios);
  read_field(object, "cost_s", &record.cost_s);
  read_field(object, "step_s", &record.step_s);
  read_field(object, "next_step", &record.next_step);
  const size_t objectives = record.objectives.size();
  for (const json& place : list_of(object, "places")) {
    record.places.push_back(place_from(place, objectives, record.pairs().size()));
  }
  return record;
}

json to_json(const AlignmentRecord& record) {
  json branches = json::array();
  for (const auto& branch : record.branches) {
    branches.push_back({{"branch", branch.name},
                        {"score", branch.scores},
                        {"baseline", branch.baselines},
                        {"baseline_deviation", branch.baseline_deviations}});
  }
  return {{"stage", record.stage},
          {"step", record.step},
          {"global_step", record.global_step},
          {"samples", record.samples},
          {"neighbours", record.neighbours},
          {"permutations", record.permutations},
          {"trunk_layers", record.trunk_layers},
          {"branches", std::move(branches)}};
}

AlignmentRecord alignment_record_from_json(const json& object) {
  AlignmentRecord record;
  read_field(object, "stage", &record.stage);
  read_field(object, "step", &record.step);
  read_field(object, "global_step", &record.global_step);
  read_field(object, "samples", &record.samples);
  read_field(object, "neighbours", &record.neighbours);
  read_field(object, "permutations", &record.permutations);
  read_field(object, "trunk_layers", &record.trunk_layers);
  for (const json& item : list_of(object, "branches")) {
    AlignmentRecord::Branch& branch = record.branches.emplace_back();
    read_field(item, "branch", &branch.name);
    const size_t depths = list_of(item, "score").size();
    branch.scores = numbers_from(item, "score", depths);
    branch.baselines = numbers_from(item, "baseline", depths);
    branch.baseline_deviations = numbers_from(item, "baseline_deviation", depths);
  }
  return record;
}

std::string interference_path(const std::string& run_directory) {
  return run_directory + "/interference.jsonl";
}

std::string alignment_path(const std::string& run_directory) {
  return run_directory + "/alignment.jsonl";
}

}  // namespace espalier
