#pragma once

#include <string>

namespace espalier {

// Over an authenticated connection to the coordinator of a run, which must hold its address file.
// `token_file` may be empty: the run's own. Both throw ConfigError when nobody answers, or the
// token is not good for this.

// What the coordinator knows, as JSON; a reader's token is enough.
std::string fetch_status(const std::string& run_directory, const std::string& token_file = "");

// Asks to stop the run with a checkpoint, as an operator.
void request_stop(const std::string& run_directory, const std::string& why,
                  const std::string& token_file = "");

}  // namespace espalier
