#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "comm/communicator.h"

namespace espalier {

// run.json of a run directory: where the run is, for people, scripts and the next start. An empty
// object when there is none, or none that can be read.
nlohmann::json read_run_state(const std::string& run_directory);
// A failure is logged, and the run goes on.
void write_run_state(const std::string& run_directory, const nlohmann::json& state);

// config.toml: what the run is trained with. Nothing is written where it stands there already, so
// that a run goes on also on a full disk. Collective: rank 0 writes, and every rank throws its
// StorageError.
void write_run_config(Communicator& comm, const std::string& run_directory,
                      const std::string& resolved);

}  // namespace espalier
