#include "launch/runs/run_summary.h"

#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "launch/report/report_svg.h"
#include "launch/runs/text_table.h"
#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/errors.h"
#include "trainer/evaluation/section.h"
#include "trainer/host/host_name.h"
#include "trainer/provenance/run_history.h"
#include "trainer/record/json_field.h"
#include "trainer/record/run_directory.h"
#include "trainer/record/run_state.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json read_json(const std::string& path) {
  std::ifstream file(path);
  json value = json::parse(file, nullptr, /*allow_exceptions=*/false);
  return value.is_object() ? value : json::object();
}

// The newest whole line of a file that may be long.
json last_line(const std::string& path) {
  constexpr std::streamoff kTail = 1 << 16;
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return json::object();
  file.seekg(std::max<std::streamoff>(0, static_cast<std::streamoff>(file.tellg()) - kTail));
  json newest = json::object();
  for (std::string text; std::getline(file, text);) {
    json line = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (line.is_object()) newest = std::move(line);
  }
  return newest;
}

double changed_at(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? static_cast<double>(info.st_mtime) : -1;
}

// Whether the process that holds the run is known to be gone: only on its own host.
bool is_left_alone(const std::string& run) {
  int pid = 0;
  std::string host;
  const json holder = read_json(run + "/train.lock");
  read_field(holder, "pid", &pid);
  read_field(holder, "host", &host);
  return pid > 0 && host == host_name() && ::kill(pid, 0) != 0 && errno == ESRCH;
}

// What an evaluation measured under the name that checkpoint.best has.
double measured(const json& line, const std::string& metric) {
  const json validation = line.value("validation", json::object());
  if (validation.contains(metric) && validation.at(metric).is_number()) return validation[metric];
  for (const Section& section : sections_from_json(line.value("sections", json::array()))) {
    for (const auto& [name, value] : numbers_of(section)) {
      if (section.name + "/" + name == metric) return value;
    }
  }
  return std::nan("");
}

std::string best_of(const std::string& run) {
  const std::string root = RunDirectory::checkpoints(run);
  const std::string best = best_checkpoint(root);
  if (best.empty()) return "";
  const json state = read_json(root + "/" + best + "/state.json");
  const json settings = state.value("settings", json::object());
  std::string metric = settings.value("checkpoint.best", std::string());
  if (metric.empty()) metric = "validation/total";
  double value = std::nan("");
  std::ifstream history(RunDirectory::evaluation(run) + "/history.jsonl");
  for (std::string text; std::getline(history, text);) {
    const json line = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!line.is_object() || line.value("stage", json()) != state.value("stage", json()) ||
        line.value("step", json()) != state.value("stage_step", json())) {
      continue;
    }
    const double found = measured(line, metric);
    if (std::isfinite(found)) value = found;
  }
  const std::string step = best.substr(best.find_first_not_of("0", best.find('-') + 1));
  return metric + " " + short_number(value) + " @ " + step;
}

}  // namespace

bool is_run(const std::string& directory) {
  return fs::exists(directory + "/config.toml") && fs::exists(directory + "/run.json");
}

RunSummary summarize_run(const std::string& directory, double now) {
  RunSummary run;
  run.directory = directory;
  run.name = fs::canonical(directory).filename().string();
  const json status = read_run_state(directory);
  read_field(status, "state", &run.state);
  read_field(status, "step", &run.step);
  read_field(status, "total_steps", &run.total_steps);
  if (run.state == "running" && is_left_alone(directory)) run.state = "interrupted";
  const json line = last_line(directory + "/metrics.jsonl");
  int64_t step = 0;
  read_field(line, "stage", &run.stage);
  read_field(line, "global_step", &step);
  read_field(line, "total_loss", &run.loss);
  run.step = std::max({int64_t{0}, run.step, step});
  run.best = best_of(directory);
  std::ifstream events(directory + "/events.jsonl");
  std::string first;
  if (std::getline(events, first)) {
    double begun = -1;
    read_field(json::parse(first, nullptr, /*allow_exceptions=*/false), "time", &begun);
    if (begun > 0) run.begun_s = now - begun;
  }
  const double changed =
      std::max(changed_at(directory + "/run.json"), changed_at(directory + "/metrics.jsonl"));
  if (changed > 0) run.changed_s = std::max(0.0, now - changed);
  const json parent = parent_of(directory);
  if (parent.is_object()) {
    run.parent = parent.value("run", "") + "@" + std::to_string(parent.value("step", int64_t{0}));
  }
  return run;
}

std::vector<RunSummary> list_runs(const std::string& directory, double now) {
  if (!fs::is_directory(directory)) {
    throw ConfigError(directory + " is no directory; name one that holds runs");
  }
  std::vector<RunSummary> runs;
  if (is_run(directory)) return {summarize_run(directory, now)};
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string path = entry.path().string();
    if (entry.is_directory() && is_run(path)) runs.push_back(summarize_run(path, now));
  }
  std::sort(runs.begin(), runs.end(), [](const RunSummary& a, const RunSummary& b) {
    return a.changed_s != b.changed_s ? a.changed_s < b.changed_s : a.name < b.name;
  });
  return runs;
}

std::string age_text(double seconds) {
  if (seconds < 0) return "–";
  if (seconds < 120) return format("%.0f s", seconds);
  if (seconds < 7200) return format("%.0f min", seconds / 60);
  if (seconds < 172800) return format("%.0f h", seconds / 3600);
  return format("%.0f d", seconds / 86400);
}

std::string runs_table(const std::vector<RunSummary>& runs) {
  std::vector<std::vector<std::string>> rows = {
      {"run", "state", "stage", "step", "loss", "best", "begun", "changed"}};
  for (const RunSummary& run : runs) {
    rows.push_back({run.name, run.state, run.stage.empty() ? "–" : run.stage,
                    std::to_string(run.step) + "/" + std::to_string(run.total_steps),
                    short_number(run.loss), run.best.empty() ? "–" : run.best,
                    age_text(run.begun_s), age_text(run.changed_s)});
  }
  return text_table(rows);
}

json to_json(const RunSummary& run) {
  const auto known = [](double value) { return value < 0 ? json() : json(value); };
  return {{"name", run.name},
          {"directory", run.directory},
          {"state", run.state},
          {"stage", run.stage},
          {"step", run.step},
          {"total_steps", run.total_steps},
          {"loss", std::isfinite(run.loss) ? json(run.loss) : json()},
          {"best", run.best.empty() ? json() : json(run.best)},
          {"begun_s", known(run.begun_s)},
          {"changed_s", known(run.changed_s)},
          {"parent", run.parent.empty() ? json() : json(run.parent)}};
}

}  // namespace espalier
