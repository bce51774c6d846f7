#pragma once

#include <string>

namespace espalier {

// The JSON of a running coordinator; throws ConfigError when none answers for this directory.
std::string fetch_status(const std::string& run_directory);

// Asks the coordinator to stop the run with a checkpoint, over an authenticated connection.
void request_stop(const std::string& run_directory, const std::string& why);

}  // namespace espalier
