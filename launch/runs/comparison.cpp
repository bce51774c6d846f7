#include "launch/runs/comparison.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "trainer/errors.h"

namespace espalier {
namespace {

using nlohmann::json;

// Of this run's place among all, the item that `same` finds; added behind the others if it is new.
template <class Row, class Same>
Row& row_for(std::vector<Row>& rows, const Same& same) {
  const auto found = std::find_if(rows.begin(), rows.end(), same);
  return found != rows.end() ? *found : rows.emplace_back();
}

ComparedRun read_run(const std::string& directory, double now, const SettingsReader& settings_of) {
  if (!is_run(directory)) {
    throw ConfigError(directory + " is not a run directory: it has no config.toml and run.json");
  }
  return {summarize_run(directory, now), read_report_data(directory), settings_of(directory)};
}

// The last part of the path alone does not tell runs/a/small from runs/b/small.
void make_names_differ(std::vector<ComparedRun>& runs) {
  std::set<std::string> names;
  for (const auto& run : runs) names.insert(run.summary.name);
  if (names.size() == runs.size()) return;
  for (auto& run : runs) run.summary.name = run.summary.directory;
}

void compare_settings(Comparison& all) {
  std::set<std::string> keys;
  for (const auto& run : all.runs) {
    for (const auto& [key, value] : run.settings.items()) keys.insert(key);
  }
  for (const std::string& key : keys) {
    if (key == "run.directory" || key == "checkpoint.resume") continue;
    ComparedSetting row{key, {}};
    for (const auto& run : all.runs) row.values.push_back(run.settings.value(key, json()));
    const bool differs = std::any_of(row.values.begin(), row.values.end(),
                                     [&](const json& value) { return value != row.values[0]; });
    if (differs) all.settings.push_back(std::move(row));
  }
}

void add_curve(Comparison& all, size_t run, const std::string& stage, const std::string& name,
               const ReportCurve& curve) {
  if (curve.points.empty()) return;
  ComparedCurve& row = row_for(
      all.curves, [&](const ComparedCurve& c) { return c.stage == stage && c.name == name; });
  row.stage = stage;
  row.name = name;
  row.curves.resize(all.runs.size());
  row.curves[run] = curve;
}

void add_section(Comparison& all, size_t run, const std::string& stage, const Section& section) {
  for (const Metric& metric : section.metrics) {
    ComparedMetric& row = row_for(all.metrics, [&](const ComparedMetric& m) {
      return m.stage == stage && m.section == section.name && m.metric.name == metric.name;
    });
    if (row.values.empty()) {
      row = {stage, section.name, metric, std::vector<double>(all.runs.size(), kUnknown),
             std::vector<double>(all.runs.size(), kUnknown)};
    }
    row.values[run] = metric.value;
    row.standard_errors[run] = metric.standard_error;
  }
  for (const Picture& picture : section.pictures) {
    ComparedPicture& row = row_for(all.pictures, [&](const ComparedPicture& p) {
      return p.stage == stage && p.section == section.name && p.name == picture.name;
    });
    if (row.paths.empty()) {
      row = {stage,        section.name,   section.title,
             picture.name, picture.legend, std::vector<std::string>(all.runs.size())};
    }
    row.paths[run] = path_of(all.runs[run].data, picture);
  }
}

json number(double value) { return std::isfinite(value) ? json(value) : json(); }

json curve_json(const Comparison& all, const ComparedCurve& row) {
  json points = json::object();
  for (size_t i = 0; i < row.curves.size(); ++i) {
    json& of_run = points[all.runs[i].summary.name] = json::array();
    for (const auto& [x, y] : row.curves[i].points) of_run.push_back({x, y});
  }
  return {{"stage", row.stage}, {"name", row.name}, {"points", points}};
}

json metric_json(const Comparison& all, const ComparedMetric& row) {
  json values = json::object(), baselines = json::object();
  for (size_t i = 0; i < row.values.size(); ++i) {
    values[all.runs[i].summary.name] = {{"value", number(row.values[i])},
                                        {"standard_error", number(row.standard_errors[i])}};
  }
  for (const auto& baseline : row.metric.baselines) {
    baselines[baseline.label] = number(baseline.value);
  }
  return {{"stage", row.stage},      {"section", row.section},
          {"name", row.metric.name}, {"label", row.metric.label},
          {"unit", row.metric.unit}, {"is_lower_better", row.metric.is_lower_better},
          {"values", values},        {"baselines", baselines}};
}

}  // namespace

Comparison compare_runs(const std::vector<std::string>& directories, double now,
                        const SettingsReader& settings_of) {
  if (directories.size() < 2) throw ConfigError("compare needs two runs or more; name another");
  Comparison all;
  for (const auto& directory : directories) {
    all.runs.push_back(read_run(directory, now, settings_of));
  }
  make_names_differ(all.runs);
  compare_settings(all);
  for (size_t run = 0; run < all.runs.size(); ++run) {
    for (const ReportStage& stage : all.runs[run].data.stages) {
      add_curve(all, run, stage.name, "total", stage.total_loss);
      for (const auto& curve : stage.losses) add_curve(all, run, stage.name, curve.name, curve);
      for (const auto& curve : stage.validation) add_curve(all, run, stage.name, curve.name, curve);
      add_curve(all, run, stage.name, "samples/s", stage.samples_per_s);
      for (const Section& section : stage.sections) add_section(all, run, stage.name, section);
    }
  }
  return all;
}

json comparison_json(const Comparison& all) {
  json out = {{"runs", json::array()},
              {"settings", json::array()},
              {"curves", json::array()},
              {"metrics", json::array()}};
  for (const auto& run : all.runs) out["runs"].push_back(to_json(run.summary));
  for (const auto& row : all.settings) {
    json values = json::object();
    for (size_t i = 0; i < row.values.size(); ++i) {
      values[all.runs[i].summary.name] = row.values[i];
    }
    out["settings"].push_back({{"key", row.key}, {"values", values}});
  }
  for (const auto& row : all.curves) out["curves"].push_back(curve_json(all, row));
  for (const auto& row : all.metrics) out["metrics"].push_back(metric_json(all, row));
  return out;
}

}  // namespace espalier
