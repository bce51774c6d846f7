#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace espalier {

// run.json of a run directory: where the run is, for people, scripts and the next start. An empty
// object when there is none, or none that can be read.
nlohmann::json read_run_state(const std::string& run_directory);
// A failure is logged, and the run goes on.
void write_run_state(const std::string& run_directory, const nlohmann::json& state);

}  // namespace espalier
