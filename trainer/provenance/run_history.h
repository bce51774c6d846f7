#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace espalier {

// Note [History of a run]: history.jsonl says with what a run's weights were made. A line for each
// start with other settings or another program than the one before:
// {"time", "generation", "event": "begun" | "changed" | "extended" | "forked", "step", "commit",
//  "config": "history/config-0001.toml", "config_digest", "changes": [{"key", "was", "is"}],
//  "parent": {"run", "step", "commit", "config_digest"}}
// config.toml is what it is trained with now; history/ keeps every version.
struct HistoryEntry {
  std::string event = {};  // "" = none of the others: "begun", or "changed" where it is
  int generation = 0;
  int64_t step = 0;  // of the checkpoint it goes on from
  std::string commit = {};
  nlohmann::json changes = nlohmann::json::array();
  nlohmann::json parent = {};  // null = it began with random weights
};

// The lines, oldest first; empty when there is no history.
std::vector<nlohmann::json> read_history(const std::string& run_directory);

// The first line's parent; null when the run is no fork.
nlohmann::json parent_of(const std::string& run_directory);

// A line with what config.toml says, `resolved`, where it or the program is not that of the line
// before, or `entry` has changes. StorageError.
void append_history(const std::string& run_directory, const std::string& resolved,
                    const std::string& config_digest, const HistoryEntry& entry);

}  // namespace espalier
