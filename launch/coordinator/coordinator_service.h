#pragma once

#include <string>
#include <vector>

#include "launch/coordinator/launchers/launcher.h"
#include "trainer/config/deadline_settings.h"

namespace espalier {

struct CoordinatorSettings {
  std::string run_directory;
  int ranks = 1;
  LauncherKind launcher = LauncherKind::kMpirun;  // chosen: not kAuto
  std::vector<HostSlots> hosts;                   // as in LaunchRequest
  std::string remote_agent;
  std::string program;  // path of the espalier program, for the ranks
  // For a launch before anything new was committed, and for one after: "go on" by then.
  std::vector<std::string> first_arguments;
  std::vector<std::string> later_arguments;
  std::vector<std::string> launcher_arguments;  // appended to the launcher's
  // Same text = same job: a leftover of it is adopted, of another one ended.
  std::string job;
  DeadlineConfig deadlines;
};

// Runs a job to its end: launches, watches, relaunches, stops. Returns the exit code. One thread;
// takes SIGINT, SIGTERM, SIGUSR1 and SIGCHLD while it runs. Throws ConfigError when another
// coordinator holds the run directory.
int run_coordinator(const CoordinatorSettings& settings);

}  // namespace espalier
