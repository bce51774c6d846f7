#include "trainer/provenance/run_history.h"

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "trainer/checkpoint/durable_file.h"
#include "trainer/errors.h"
#include "trainer/record/append_file.h"
#include "trainer/record/json_text.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string history_path(const std::string& run) { return run + "/history.jsonl"; }

std::string version_name(size_t number) {
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "history/config-%04zu.toml", number);
  return name.data();
}

// A version of the config with its number, or the newest where that says the same.
std::string keep_version(const std::string& run, const std::vector<json>& history,
                         const std::string& resolved) {
  const std::string newest = history.empty() ? "" : history.back().value("config", "");
  if (!newest.empty() && fs::exists(run + "/" + newest) &&
      read_text_file(run + "/" + newest) == resolved) {
    return newest;
  }
  const std::string name = version_name(history.size() + 1);
  std::error_code error;
  fs::create_directories(run + "/history", error);
  if (error) throw StorageError(run + "/history: cannot create: " + error.message());
  replace_durably(run + "/" + name, resolved);
  return name;
}

}  // namespace

void append_history(const std::string& run, const std::string& resolved, const std::string& digest,
                    const HistoryEntry& entry) {
  const std::vector<json> history = read_history(run);
  const bool is_same = !history.empty() && history.back().value("config_digest", "") == digest &&
                       history.back().value("commit", "") == entry.commit;
  if (is_same && entry.changes.empty()) return;
  const std::string event =
      !entry.event.empty() ? entry.event : (history.empty() ? "begun" : "changed");
  const json line = {{"time", utc_stamp()},     {"generation", entry.generation},
                     {"event", event},          {"step", entry.step},
                     {"commit", entry.commit},  {"config", keep_version(run, history, resolved)},
                     {"config_digest", digest}, {"changes", entry.changes},
                     {"parent", entry.parent}};
  AppendFile file(history_path(run));
  if (!file.append_line(json_text(line))) {
    throw StorageError(file.path() + ": cannot write: " + file.error());
  }
}

std::vector<json> read_history(const std::string& run_directory) {
  std::vector<json> lines;
  std::ifstream file(history_path(run_directory));
  for (std::string text; std::getline(file, text);) {
    json line = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (line.is_object()) lines.push_back(std::move(line));
  }
  return lines;
}

json parent_of(const std::string& run_directory) {
  for (const json& line : read_history(run_directory)) {
    const json parent = line.value("parent", json());
    if (parent.is_object()) return parent;
  }
  return {};
}

}  // namespace espalier
