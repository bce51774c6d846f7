#include "trainer/provenance/settings_change.h"

#include <algorithm>
#include <array>
#include <set>

#include "trainer/checkpoint/durable_file.h"
#include "trainer/config/settings.h"

namespace espalier {
namespace {

using nlohmann::json;

constexpr std::array kFree = {"run.",     "checkpoint.", "log.",         "evaluation.",
                              "compute.", "deadline.",   "interference."};

// Where a stage may end early, what is evaluated, and when, decides how long it is trained.
bool may_end_early(const RunConfig& config) {
  return std::any_of(config.stages.begin(), config.stages.end(),
                     [](const StageConfig& stage) { return stage.early_stop_patience > 0; });
}

bool shapes_result(const std::string& key, bool ends_early) {
  if (ends_early && (key.starts_with("evaluation.") || key.starts_with("checkpoint.best"))) {
    return true;
  }
  if (key.starts_with("teacher.") && key.ends_with(".cache")) return false;
  if (key.starts_with("episodes.") && key.ends_with(".python")) return false;
  return std::none_of(kFree.begin(), kFree.end(),
                      [&](const char* prefix) { return key.starts_with(prefix); });
}

// "stage.codes.optimizer" of "stage.codes.optimizer.beta1"
std::string table_of(const std::string& key) {
  const size_t dot = key.rfind('.');
  return dot == std::string::npos ? "" : key.substr(0, dot);
}

bool has_table(const json& values, const std::string& table) {
  return std::any_of(values.items().begin(), values.items().end(),
                     [&](const auto& item) { return item.key().starts_with(table + "."); });
}

// The largest table of the key that `values` has nothing of, but a named one: "stage.extra" of
// "stage.extra.optimizer.beta1". "" when they have its own.
std::string missing_table(const json& values, const std::string& key) {
  std::string missing;
  for (std::string table = table_of(key); table.find('.') != std::string::npos;
       table = table_of(table)) {
    if (has_table(values, table)) break;
    missing = table;
  }
  return missing;
}

bool is_place_of_data(const std::string& key) {
  const std::string name = key.substr(key.rfind('.') + 1);
  if (key.starts_with("text.")) return name == "file";  // of other contents it is refused later
  if (key.starts_with("episodes.")) return name == "path";
  return key.starts_with("data.") && (name == "train" || name == "validation" || name == "test");
}

bool is_extension(const SettingChange& change, const RunConfig& config, int64_t stage_index) {
  if (is_place_of_data(change.key)) return true;
  // "stage.extra", "data.mine": things of their own, not parts of one that was there.
  if (change.was.is_null()) return std::count(change.key.begin(), change.key.end(), '.') == 1;
  for (size_t i = static_cast<size_t>(stage_index); i < config.stages.size(); ++i) {
    if (change.key != "stage." + config.stages[i].name + ".steps") continue;
    return change.is.is_number() && change.is > change.was;
  }
  return false;
}

}  // namespace

std::vector<SettingChange> result_changes(const json& before, const RunConfig& config) {
  const bool ends_early = may_end_early(config);
  std::vector<SettingChange> changes;
  std::set<std::string> tables;  // that came or went, once each
  for (const auto& [key, value] : config.values.items()) {
    if (!shapes_result(key, ends_early)) continue;
    if (before.contains(key)) {
      if (before.at(key) != value) changes.push_back({key, before.at(key), value});
      continue;
    }
    const std::string table = missing_table(before, key);
    if (!table.empty() && tables.insert(table).second) changes.push_back({table, json(), "new"});
  }
  for (const auto& [key, value] : before.items()) {
    if (!shapes_result(key, ends_early) || config.values.contains(key)) continue;
    const std::string table = missing_table(config.values, key);
    if (!table.empty() && tables.insert(table).second) changes.push_back({table, "there", json()});
  }
  return changes;
}

std::vector<SettingChange> beyond_extension(const std::vector<SettingChange>& changes,
                                            const RunConfig& config, int64_t stage_index) {
  std::vector<SettingChange> beyond;
  std::copy_if(changes.begin(), changes.end(), std::back_inserter(beyond),
               [&](const auto& change) { return !is_extension(change, config, stage_index); });
  return beyond;
}

std::string text_of(const SettingChange& change) {
  if (change.was.is_null()) return change.key + ": was not there, is new";
  if (change.is.is_null()) return change.key + ": was there, is gone";
  return change.key + ": was " + shown_value(change.was) + ", is " + shown_value(change.is);
}

json to_json(const std::vector<SettingChange>& changes) {
  json list = json::array();
  for (const SettingChange& change : changes) {
    list.push_back({{"key", change.key}, {"was", change.was}, {"is", change.is}});
  }
  return list;
}

std::string config_digest(const json& values) {
  json alike = values;
  if (alike.is_object()) {
    alike.erase("run.directory");
    alike.erase("checkpoint.resume");
  }
  return digest_text(alike.dump());
}

}  // namespace espalier
