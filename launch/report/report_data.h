#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "trainer/evaluation/section.h"

namespace espalier {

// A curve over the steps of a stage.
struct ReportCurve {
  std::string name;
  std::vector<std::pair<double, double>> points;  // (step, value), finite values only
};

struct ReportStage {
  std::string name;
  std::vector<ReportCurve> losses;      // one per objective
  std::vector<ReportCurve> validation;  // "validation/LOSS", of held-out data
  ReportCurve total_loss, learning_rate, grad_norm, samples_per_s;
  double mean_samples_per_s = 0;          // all samples over all time
  std::map<std::string, double> phase_s;  // seconds of training by phase, the whole stage
  std::map<std::string, double> tokens;   // trained on by each objective, the whole stage
  double training_s = 0;
  double evaluation_s = 0;
  // What its last evaluation found: evaluation/<stage>.json, or while that is not there the newest
  // line of evaluation/history.jsonl.
  std::vector<Section> sections;
  bool is_final = false;  // it is the evaluation at the stage's end
  int64_t evaluated_step = -1;
};

// A file "<stage>-<step>-<name>.png" of images/ that no section above shows.
struct EarlierPicture {
  std::string path;
  std::string stage;
  std::string name;  // "<section>-<picture>": the same at every step
  int64_t step = 0;
};

// Everything a report shows, read from the files of a run directory. Files that are missing leave
// their part empty: a run can be reported while it goes on.
struct ReportData {
  std::string run_directory;
  nlohmann::json status;  // run.json
  std::string config;     // config.toml
  std::vector<ReportStage> stages;
  std::vector<EarlierPicture> earlier_pictures;  // by stage, name and step
  std::vector<nlohmann::json> events;
  int generations = 0;
  int world_size = 0;
  double wall_s = 0;  // time in which some generation was alive
};

// Throws ConfigError when the directory is no run.
ReportData read_report_data(const std::string& run_directory);

// Where a section's picture lies in this run, which may have been moved since it was made; "" when
// it is not there.
std::string path_of(const ReportData& data, const Picture& picture);

}  // namespace espalier
