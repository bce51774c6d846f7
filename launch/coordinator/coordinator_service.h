#pragma once

#include <string>
#include <vector>

namespace espalier {

struct CoordinatorSettings {
  std::string run_directory;
  int ranks = 1;
  std::string program;  // path of the espalier program, for the ranks
  // For a launch before anything new was committed, and for one after: "go on" by then.
  std::vector<std::string> first_arguments;
  std::vector<std::string> later_arguments;
  std::vector<std::string> launcher_arguments;  // appended to mpirun's
  // Same text = same job: a leftover of it is adopted, of another one ended.
  std::string job;
};

// Runs a job to its end: launches, watches, relaunches, stops. Returns the exit code. One thread;
// takes SIGINT, SIGTERM, SIGUSR1 and SIGCHLD while it runs. Throws ConfigError when another
// coordinator holds the run directory.
int run_coordinator(const CoordinatorSettings& settings);

// For `espalier status` and `stop`.
// The JSON of a running coordinator; throws ConfigError when none answers for this directory.
std::string fetch_status(const std::string& run_directory);
// Asks the coordinator to stop the run with a checkpoint, over an authenticated connection.
void request_stop(const std::string& run_directory, const std::string& why);

}  // namespace espalier
