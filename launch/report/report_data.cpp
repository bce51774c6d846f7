#include "launch/report/report_data.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <tuple>

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

// All of a stage's samples and the time they took.
struct Sums {
  double last_step = 0, last_samples = 0, samples = 0, seconds = 0;
};

void add_curves(ReportStage& stage, const json& line, double step) {
  add(stage.total_loss, step, number(line, "total_loss"));
  add(stage.learning_rate, step, number(line, "learning_rate"));
  add(stage.grad_norm, step, number(line, "grad_norm"));
  add(stage.samples_per_s, step, number(line, "samples_per_s"));
  const json losses = line.value("losses", json::object());
  for (const auto& [loss, value] : losses.items()) {
    if (value.is_number()) add(named(stage.losses, loss), step, value.get<double>());
  }
}

void add_times(ReportStage& stage, Sums& sum, const json& line, double step) {
  const double steps = std::max(0.0, step - sum.last_step);
  const json times = line.value("time_s", json::object());
  for (const auto& [phase, seconds] : times.items()) {
    if (!seconds.is_number()) continue;
    stage.phase_s[phase] += steps * seconds.get<double>();
    stage.training_s += steps * seconds.get<double>();
  }
  const json tokens = line.value("tokens_per_step", json::object());
  for (const auto& [objective, count] : tokens.items()) {
    if (count.is_number()) stage.tokens[objective] += steps * count.get<double>();
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

void read_metrics_into(ReportData& data) {
  std::map<std::string, Sums> sums;
  for (const json& line : read_metrics(data.run_directory)) {
    if (!line.is_object()) continue;
    const std::string name = line.value("stage", std::string());
    ReportStage& stage = stage_of(data, name);
    const double step = number(line, "step");
    add_curves(stage, line, step);
    add_times(stage, sums[name], line, step);
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

int64_t step_of(const json& evaluation) {
  const double step = number(evaluation, "step");
  return std::isfinite(step) ? static_cast<int64_t>(step) : -1;
}

void read_evaluations_into(ReportData& data) {
  const std::string folder = data.run_directory + "/evaluation/";
  for (const json& line : read_lines(folder + "history.jsonl")) {
    ReportStage& stage = stage_of(data, line.value("stage", std::string()));
    const json losses = line.value("validation", json::object());
    for (const auto& [name, loss] : losses.items()) {
      if (loss.is_number()) add(named(stage.validation, name), number(line, "step"), loss);
    }
    if (line.value("sections", json::array()).empty()) continue;  // losses alone
    stage.sections = sections_from_json(line.value("sections", json()));
    stage.evaluated_step = step_of(line);
  }
  for (auto& stage : data.stages) {
    const json evaluation = read_json(folder + stage.name + ".json");
    if (!evaluation.is_object()) continue;
    stage.sections = sections_from_json(evaluation.value("sections", json()));
    stage.evaluated_step = step_of(evaluation);
    stage.is_final = true;
  }
}

// "STAGE-0000400-NAME" is the picture NAME of step 400.
bool split_picture_name(const std::string& stem, const std::string& stage, EarlierPicture& out) {
  if (!stem.starts_with(stage + "-")) return false;
  const size_t begin = stage.size() + 1;
  const size_t end = std::min(stem.find_first_not_of("0123456789", begin), stem.size());
  constexpr size_t kDigits = 7, kMostDigits = 18;
  if (end - begin < kDigits || end - begin > kMostDigits) return false;
  if (end < stem.size() && stem[end] != '-') return false;
  out.stage = stage;
  out.step = std::stoll(stem.substr(begin, end - begin));
  out.name = end < stem.size() ? stem.substr(end + 1) : "";
  return true;
}

void find_earlier_pictures(ReportData& data) {
  std::set<fs::path> shown;  // file names
  for (const auto& stage : data.stages) {
    for (const auto& section : stage.sections) {
      for (const auto& picture : section.pictures) shown.insert(fs::path(picture.path).filename());
    }
  }
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(data.run_directory + "/images", none)) {
    const fs::path& path = entry.path();
    if (path.extension() != ".png" || shown.contains(path.filename())) continue;
    for (const auto& stage : data.stages) {
      EarlierPicture picture{path.string(), {}, {}, 0};
      if (!split_picture_name(path.stem().string(), stage.name, picture)) continue;
      data.earlier_pictures.push_back(std::move(picture));
      break;
    }
  }
  std::sort(data.earlier_pictures.begin(), data.earlier_pictures.end(),
            [](const EarlierPicture& a, const EarlierPicture& b) {
              return std::tie(a.stage, a.name, a.step) < std::tie(b.stage, b.name, b.step);
            });
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
  read_evaluations_into(data);
  find_earlier_pictures(data);
  return data;
}

std::string path_of(const ReportData& data, const Picture& picture) {
  const fs::path name = fs::path(picture.path).filename();
  if (name.empty()) return "";
  const fs::path path = fs::path(data.run_directory) / "images" / name;
  std::error_code none;
  return fs::exists(path, none) ? path.string() : "";
}

}  // namespace espalier
