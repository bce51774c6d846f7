#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace espalier {

// A run in one line: what `espalier runs` shows of it.
struct RunSummary {
  std::string directory, name;
  std::string state;  // "running", "stopped", "finished"; "interrupted": its process is gone
  std::string stage;  // of the newest line of metrics.jsonl; "" = none yet
  int64_t step = 0, total_steps = 0;                       // over all stages
  double loss = std::numeric_limits<double>::quiet_NaN();  // the newest total
  std::string best;                                        // "validation/caption 0.812 @ 120"
  double begun_s = -1, changed_s = -1;                     // ages in seconds; -1 = not known
  std::string parent;                                      // of a fork: "RUN@STEP"
};

bool is_run(const std::string& directory);

// Files that are missing or damaged leave their fields as they are. `now`: seconds since 1970.
RunSummary summarize_run(const std::string& directory, double now);

// The runs in a directory, or the directory itself where it is one: last changed first.
// ConfigError when there is no such directory.
std::vector<RunSummary> list_runs(const std::string& directory, double now);

std::string runs_table(const std::vector<RunSummary>& runs);
nlohmann::json to_json(const RunSummary& run);

// "42 s", "12 min", "5 h", "3 d"; "–" when it is not known.
std::string age_text(double seconds);

}  // namespace espalier
