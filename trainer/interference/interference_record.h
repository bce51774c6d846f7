#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "trainer/evaluation/section.h"
#include "trainer/interference/parameter_place.h"

namespace espalier {

// What a measure found of the gradients at one place: a projection (a weight with its bias), a
// layer (all of them; `projection` is empty), or all shared parameters together (kEverywhere).
// Unknown numbers are NaN: an objective had no micro-batch, or no gradient there.
struct PlaceMeasure {
  ParameterPlace place;
  int64_t parameters = 0;      // numbers
  bool is_projection = false;  // a projection with a matrix, not a scale of a norm: it has a vote
  std::vector<double> norms;   // by objective: of its mean gradient per step, weighted as it trains
  // By pair of objectives: cosine of their gradients, and the mean of the four cosines between a
  // half of the one's micro-batches and a half of the other's.
  std::vector<double> cosines, half_cosines;
  // By objective: cosine between the gradients of the two halves of its own micro-batches, the most
  // that two samples of that size of one task agree (the baseline of Uni-X).
  std::vector<double> split_half;
};

inline const std::string kEverywhere = "all";

// A line of interference.jsonl.
struct InterferenceRecord {
  std::string stage;
  int64_t step = 0;         // steps of the stage done, the last of the measure included
  int64_t global_step = 0;  // the same over all stages
  int64_t steps = 1;        // that the measure took in
  std::vector<std::string> objectives;
  std::vector<std::string> branches;  // that they go through; "" = none
  std::vector<PlaceMeasure> places;
  std::map<std::string, double> update_ratios;  // |change| / |weights| of the last step, by group
  double cost_s = 0;                            // that the measure took, on the slowest rank
  double step_s = 0;                            // that a step takes; 0 = not known
  int64_t next_step = 0;                        // of the stage, that the next measure begins after

  // Pairs in the order of `cosines`.
  std::vector<std::pair<size_t, size_t>> pairs() const { return pairs_of(objectives.size()); }
  static std::vector<std::pair<size_t, size_t>> pairs_of(size_t objectives);
};

// The half cosine of a pair less the mean of its two split-half baselines: both are between samples
// of the same size. NaN where one of them is.
double beyond_baseline(const PlaceMeasure& measure, size_t pair);

nlohmann::json to_json(const InterferenceRecord& record);
// Missing or mistyped fields keep their defaults, lists get the length that is promised: the file
// may be of another version.
InterferenceRecord interference_record_from_json(const nlohmann::json& json);

// A line of alignment.jsonl: how far the hidden states of images and of their captions have the
// same neighbours.
struct AlignmentRecord {
  std::string stage;
  int64_t step = 0, global_step = 0;
  int64_t samples = 0, neighbours = 0, permutations = 0;
  int64_t trunk_layers = 0;
  struct Branch {
    std::string name;
    // By depth: 0 = embeddings, then after each layer, the last after the branch's norm.
    std::vector<double> scores, baselines, baseline_deviations;
  };
  std::vector<Branch> branches;
};

nlohmann::json to_json(const AlignmentRecord& record);
AlignmentRecord alignment_record_from_json(const nlohmann::json& json);

std::string interference_path(const std::string& run_directory);
std::string alignment_path(const std::string& run_directory);

}  // namespace espalier
