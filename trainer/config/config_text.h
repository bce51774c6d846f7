#pragma once

#include <string>

#include "trainer/config/settings.h"

namespace espalier {

// TOML that load_run_config() reads back to the same config; each line tells where its value came
// from. Settings of one table must have been declared together, its own values before its tables.
std::string resolved_toml(const Settings& settings);

// `espalier config explain [KEY]`: KEY is a setting or a table; a name in it (of a stage, a model)
// may be any. "" = all settings with their defaults.
std::string explain_config(const std::string& key);

// The same for programs: a list of objects with key, help, type, range, unit, default and also.
nlohmann::json settings_json(const std::string& key);

// `espalier config explain --markdown`: the page docs/configuration.md.
std::string config_reference();

}  // namespace espalier
