#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace espalier {

// A curve over the steps of a stage.
struct ReportCurve {
  std::string name;
  std::vector<std::pair<double, double>> points;  // (step, value), finite values only
};

struct ReportStage {
  std::string name;
  std::vector<ReportCurve> losses;  // one per objective
  ReportCurve total_loss, learning_rate, grad_norm, samples_per_s;
  double mean_samples_per_s = 0;          // all samples over all time
  std::map<std::string, double> phase_s;  // seconds of training by phase, the whole stage
  double training_s = 0;
  double evaluation_s = 0;
  nlohmann::json evaluation;  // evaluation/<stage>.json, null when there is none
};

struct ReportPicture {
  std::string path;
  std::string stage;
  bool is_final = false;  // made by a stage's final evaluation
};

// Everything a report shows, read from the files of a run directory. Files that are missing leave
// their part empty: a run can be reported while it goes on.
struct ReportData {
  std::string run_directory;
  nlohmann::json status;  // run.json
  std::string config;     // config.toml
  std::vector<ReportStage> stages;
  std::vector<ReportPicture> pictures;
  std::vector<nlohmann::json> events;
  int generations = 0;
  int world_size = 0;
  double wall_s = 0;  // time in which some generation was alive
};

// Throws ConfigError when the directory is no run.
ReportData read_report_data(const std::string& run_directory);

// The numbers of report.json: tokenizer, understanding, generation, samples_per_s, time_s.
nlohmann::json report_json(const ReportData& data);

}  // namespace espalier
