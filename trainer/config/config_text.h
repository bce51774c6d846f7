#pragma once

#include <string>

#include "trainer/config/run_config.h"

namespace espalier {

// TOML that load_run_config() reads back to the same config; each line tells where its value came
// from.
std::string resolved_toml(const Settings& settings, const RunConfig& config);

}  // namespace espalier
