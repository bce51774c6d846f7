#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "trainer/config/run_config.h"

namespace espalier {

// A setting that is not what it was, or a whole table ("stage.both", "stage.both.objectives.draw")
// that came or went: null on one side.
struct SettingChange {
  std::string key;
  nlohmann::json was, is;
};

// What differs between `before`, the settings that weights were made with, and `config`, of those
// settings that the result depends on. Where the run writes, how it is watched, how often it saves
// and on what it computes are free. So is a setting that the program did not have then, or has no
// more.
std::vector<SettingChange> result_changes(const nlohmann::json& before, const RunConfig& config);

// Of these, what a run that goes on with --extend may not change: anything but more steps of stage
// `stage_index` or a later one, new stages and what they name, and where the data lie.
std::vector<SettingChange> beyond_extension(const std::vector<SettingChange>& changes,
                                            const RunConfig& config, int64_t stage_index);

// "stage.codes.steps: was 160, is 200"
std::string text_of(const SettingChange& change);
nlohmann::json to_json(const std::vector<SettingChange>& changes);

// Of all settings but where the run lies and what it resumes from: the same for runs that are made
// alike.
std::string config_digest(const nlohmann::json& values);

}  // namespace espalier
