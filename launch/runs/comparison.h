#pragma once

#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "launch/report/report_data.h"
#include "launch/runs/run_summary.h"

namespace espalier {

struct ComparedRun {
  RunSummary summary;
  ReportData data;
  nlohmann::json settings;  // by key
};

// One row of a comparison has a place for each run, in their order.
struct ComparedSetting {
  std::string key;
  std::vector<nlohmann::json> values;  // null where a run has no such setting
};
struct ComparedCurve {
  std::string stage, name;
  std::vector<ReportCurve> curves;  // without points where a run has none
};
struct ComparedMetric {
  std::string stage, section;
  Metric metric;               // label, unit, baselines: of the first run that has it
  std::vector<double> values;  // NaN where a run has none
  std::vector<double> standard_errors;
};
struct ComparedPicture {
  std::string stage, section;
  std::string title, name, legend;
  std::vector<std::string> paths;  // "" where a run has none
};

struct Comparison {
  std::vector<ComparedRun> runs;
  std::vector<ComparedSetting> settings;  // those that differ
  std::vector<ComparedCurve> curves;
  std::vector<ComparedMetric> metrics;
  std::vector<ComparedPicture> pictures;
};

// The settings of a run directory, by key.
using SettingsReader = std::function<nlohmann::json(const std::string& run_directory)>;

// ConfigError when a directory is no run, or there are fewer than two. `now`: seconds since 1970.
Comparison compare_runs(const std::vector<std::string>& directories, double now,
                        const SettingsReader& settings_of);

// For a terminal: what differs, a line of blocks for each curve, and the metrics.
std::string comparison_text(const Comparison& comparison);

// One self-contained page: curves on shared charts, pictures side by side; no script.
std::string comparison_page(const Comparison& comparison);

// {"runs": […], "settings": [{"key", "values": {RUN: …}}],
//  "curves": [{"stage", "name", "points": {RUN: [[step, value], …]}}],
//  "metrics": [{"stage", "section", "name", "label", "unit", "is_lower_better",
//               "values": {RUN: {"value", "standard_error"}}, "baselines": {LABEL: …}}]}
nlohmann::json comparison_json(const Comparison& comparison);

}  // namespace espalier
