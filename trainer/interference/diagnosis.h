#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "trainer/evaluation/finding.h"
#include "trainer/interference/fork_advice.h"
#include "trainer/interference/interference_record.h"

namespace espalier {

// What the records of a run say of the interference between the objectives of one stage. Judged are
// the measures of its last half: of steps beyond half of the last measured one.
struct StageDiagnosis {
  std::string stage;
  std::vector<std::string> objectives, branches;
  std::vector<InterferenceRecord> records;  // all, by step
  int64_t judged_from = 0;                  // steps later than this are judged
  int64_t judged = 0;                       // measures that are
  std::vector<PlaceEstimate> places;
  std::map<std::string, Estimate> update_ratios;  // by group
  std::vector<ForkAdvice> advice;                 // by stack of shared layers
  double cost_share = kUnknown;                   // of the time of training, over all measures
  // "validation/LOSS" on the steps on which it was measured.
  std::map<std::string, std::vector<std::pair<double, double>>> held_out;
  std::vector<AlignmentRecord> alignment;  // all, by step

  std::string pair_name(size_t pair) const;  // "caption, draw"
};

// Reads interference.jsonl, alignment.jsonl and evaluation/history.jsonl of a run, which may still
// train. ConfigError when it is no run, or has no measures: with the setting that makes them.
std::vector<StageDiagnosis> diagnose_run(const std::string& run_directory);

nlohmann::json to_json(const StageDiagnosis& diagnosis);

// The same for people: the recommendation first, then what it rests on.
std::vector<Finding> findings_of(const StageDiagnosis& diagnosis);

}  // namespace espalier
