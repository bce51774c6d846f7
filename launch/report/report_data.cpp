#include "launch/report/report_data.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "trainer/errors.h"
#include "trainer/record/metrics.h"

namespace espalier {
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

json read_json(const std::string& path) {
  json value = json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  return value.is_discarded() ? json() : value;
}

std::vector<json> read_lines(const std::string& path) {
  std::vector<json> lines;
  std::ifstream file(path);
  for (std::string text; std::getline(file, text);) {
    json line = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (line.is_object()) lines.push_back(std::move(line));
  }
  return lines;
}

double number(const json& object, const char* name) {
  const auto field = object.find(name);
  return field != object.end() && field->is_number() ? field->get<double>() : std::nan("");
}

void add(ReportCurve& curve, double step, double value) {
  if (std::isfinite(value)) curve.points.emplace_back(step, value);
}

ReportCurve& named(std::vector<ReportCurve>& curves, const std::string& name) {
  for (auto& curve : curves) {
    if (curve.name == name) return curve;
  }
  curves.push_back({name, {}});
  return curves.back();
}

ReportStage& stage_of(ReportData& data, const std::string& name) {
  for (auto& stage : data.stages) {
    if (stage.name == name) return stage;
  }
  data.stages.emplace_back();
  data.stages.back().name = name;
  data.stages.back().total_loss.name = "total";
  data.stages.back().learning_rate.name = "learning rate";
  data.stages.back().grad_norm.name = "gradient norm";
  data.stages.back().samples_per_s.name = "samples/s";
  return data.stages.back();
}

void read_metrics_into(ReportData& data) {
  struct Sums {
    double last_step = 0, last_samples = 0, samples = 0, seconds = 0;
  };
  std::map<std::string, Sums> sums;
  for (const json& line : read_metrics(data.run_directory)) {
    if (!line.is_object()) continue;
    const std::string name = line.value("stage", std::string());
    ReportStage& stage = stage_of(data, name);
    Sums& sum = sums[name];
    const double step = number(line, "step");
    add(stage.total_loss, step, number(line, "total_loss"));
    add(stage.learning_rate, step, number(line, "learning_rate"));
    add(stage.grad_norm, step, number(line, "grad_norm"));
    add(stage.samples_per_s, step, number(line, "samples_per_s"));
    const json losses = line.value("losses", json::object());
    for (const auto& [loss, value] : losses.items()) {
      if (value.is_number()) add(named(stage.losses, loss), step, value.get<double>());
    }
    const double steps = std::max(0.0, step - sum.last_step);
    const json times = line.value("time_s", json::object());
    for (const auto& [phase, seconds] : times.items()) {
      if (!seconds.is_number()) continue;
      stage.phase_s[phase] += steps * seconds.get<double>();
      stage.training_s += steps * seconds.get<double>();
    }
    const double samples = number(line, "samples");
    const double rate = number(line, "samples_per_s");
    if (samples > sum.last_samples && rate > 0) {
      sum.samples += samples - sum.last_samples;
      sum.seconds += (samples - sum.last_samples) / rate;
    }
    sum.last_samples = samples;
    sum.last_step = step;
    if (sum.seconds > 0) stage.mean_samples_per_s = sum.samples / sum.seconds;
  }
}

void read_events_into(ReportData& data) {
  data.events = read_lines(data.run_directory + "/events.jsonl");
  std::stable_sort(data.events.begin(), data.events.end(), [](const json& a, const json& b) {
    return a.value("time", 0.0) < b.value("time", 0.0);
  });
  std::map<int, std::pair<double, double>> alive;  // first and last sign of each generation
  for (const json& event : data.events) {
    const int generation = event.value("generation", 0);
    const double time = event.value("time", 0.0);
    if (generation > 0 && time > 0) {
      auto& [first, last] = alive.try_emplace(generation, time, time).first->second;
      first = std::min(first, time);
      last = std::max(last, time);
    }
    data.generations = std::max(data.generations, generation);
    if (event.value("event", std::string()) == "evaluation") {
      stage_of(data, event.value("stage", std::string())).evaluation_s +=
          event.value("seconds", 0.0);
    }
  }
  for (const auto& [generation, span] : alive) data.wall_s += span.second - span.first;
  data.world_size = data.status.value("world_size", 0);
}

void find_pictures(ReportData& data) {
  std::set<std::string> final_names;
  for (const auto& stage : data.stages) {
    if (!stage.evaluation.is_object()) continue;
    for (const auto& picture : stage.evaluation.value("pictures", json::array())) {
      if (picture.is_string()) {
        final_names.insert(fs::path(picture.get<std::string>()).filename().string());
      }
    }
  }
  std::vector<fs::path> paths;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(data.run_directory + "/images", none)) {
    if (entry.path().extension() == ".png") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  for (const auto& path : paths) {
    const std::string name = path.filename().string();
    std::string stage;
    for (const auto& candidate : data.stages) {
      if (name.starts_with(candidate.name + "-")) stage = candidate.name;
    }
    data.pictures.push_back({path.string(), stage, final_names.contains(name)});
  }
}

}  // namespace

ReportData read_report_data(const std::string& run_directory) {
  if (!fs::exists(run_directory + "/config.toml") && !fs::exists(run_directory + "/run.json")) {
    throw ConfigError(run_directory + " is not a run directory: it has no config.toml");
  }
  ReportData data;
  data.run_directory = run_directory;
  data.status = read_json(run_directory + "/run.json");
  if (!data.status.is_object()) data.status = json::object();
  data.config = read_file(run_directory + "/config.toml");
  read_metrics_into(data);
  read_events_into(data);
  for (auto& stage : data.stages) {
    stage.evaluation = read_json(run_directory + "/evaluation/" + stage.name + ".json");
  }
  find_pictures(data);
  return data;
}

json report_json(const ReportData& data) {
  json report = {{"tokenizer", json::object()},
                 {"understanding", json::object()},
                 {"generation", json::object()},
                 {"samples_per_s", json::object()},
                 {"time_s", json::object()},
                 {"run",
                  {{"directory", data.run_directory},
                   {"state", data.status.value("state", std::string("unknown"))},
                   {"world_size", data.world_size},
                   {"generations", data.generations},
                   {"step", data.status.value("step", int64_t{-1})}}}};
  for (const auto& stage : data.stages) {
    if (stage.evaluation.is_object()) {
      for (const auto& [key, value] : stage.evaluation.items()) {
        if (key != "pictures") report[key] = value;
      }
    }
    report["samples_per_s"][stage.name] = stage.mean_samples_per_s;
    json& times = report["time_s"][stage.name] = json(stage.phase_s);
    times["training"] = stage.training_s;
    times["evaluation"] = stage.evaluation_s;
  }
  report["time_s"]["total"] = data.wall_s;
  return report;
}

}  // namespace espalier
