#include "launch/report/report_json.h"

#include <cmath>
#include <filesystem>

namespace espalier {
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

json number(double value) { return std::isfinite(value) ? json(value) : json(); }

json baselines_json(const std::vector<Baseline>& baselines) {
  json out = json::object();
  for (const auto& baseline : baselines) out[baseline.label] = number(baseline.value);
  return out;
}

json metric_json(const Metric& metric) {
  return {{"label", metric.label},
          {"unit", metric.unit},
          {"value", number(metric.value)},
          {"standard_error", number(metric.standard_error)},
          {"baselines", baselines_json(metric.baselines)}};
}

json series_json(const Series& series) {
  json values = json::array();
  for (const double value : series.values) values.push_back(number(value));
  return {{"label", series.label}, {"unit", series.unit},
          {"axis", series.axis},   {"places", series.places},
          {"values", values},      {"baselines", baselines_json(series.baselines)}};
}

json section_json(const ReportData& data, const Section& section) {
  json out = {{"title", section.title},   {"text", section.text},    {"metrics", json::object()},
              {"series", json::object()}, {"tables", json::array()}, {"pictures", json::array()}};
  for (const auto& metric : section.metrics) out["metrics"][metric.name] = metric_json(metric);
  for (const auto& series : section.series) out["series"][series.name] = series_json(series);
  for (const auto& table : section.tables) {
    out["tables"].push_back(
        {{"title", table.title}, {"columns", table.columns}, {"rows", table.rows}});
  }
  for (const auto& picture : section.pictures) {
    const std::string path = path_of(data, picture);
    if (path.empty()) continue;
    out["pictures"].push_back({{"name", picture.name},
                               {"path", "images/" + fs::path(path).filename().string()},
                               {"legend", picture.legend}});
  }
  return out;
}

json stage_json(const ReportData& data, const ReportStage& stage) {
  json times = stage.phase_s;
  times["training"] = stage.training_s;
  times["evaluation"] = stage.evaluation_s;
  json sections = json::object();
  for (const auto& section : stage.sections) sections[section.name] = section_json(data, section);
  return {{"samples_per_s", stage.mean_samples_per_s},
          {"time_s", times},
          {"tokens", stage.tokens},
          {"evaluated_step", stage.evaluated_step},
          {"sections", sections}};
}

}  // namespace

json report_json(const ReportData& data) {
  json stages = json::object();
  for (const auto& stage : data.stages) stages[stage.name] = stage_json(data, stage);
  return {{"run",
           {{"directory", data.run_directory},
            {"state", data.status.value("state", std::string("unknown"))},
            {"world_size", data.world_size},
            {"generations", data.generations},
            {"step", data.status.value("step", int64_t{-1})}}},
          {"time_s", {{"total", data.wall_s}}},
          {"stages", stages}};
}

}  // namespace espalier
