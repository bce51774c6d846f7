#pragma once

#include <string>
#include <vector>

#include "launch/coordinator/host_slots.h"
#include "launch/coordinator/launchers/launcher.h"
#include "launch/coordinator/world_choice.h"
#include "trainer/config/deadline_settings.h"

namespace espalier {

struct CoordinatorSettings {
  std::string run_directory;
  WorldChoice world;                              // with how many ranks
  LauncherKind launcher = LauncherKind::kMpirun;  // chosen: not kAuto
  // Where ranks go, and what starts programs there; empty: wherever the launcher puts them.
  std::vector<HostSlots> hosts;
  std::string agent = "ssh";
  std::string network;               // what ranks on several hosts speak over; "" = any
  std::string listen = "127.0.0.1";  // as listen_address() gives it
  std::string tls_folder;            // with certificate and key; "" = plain TCP
  std::string program;               // path of the espalier program, for the ranks
  // For a launch before anything new was committed, and for one after: "go on" by then.
  std::vector<std::string> first_arguments;
  std::vector<std::string> later_arguments;
  std::vector<std::string> launcher_arguments;  // appended to the launcher's
  std::string slurm_job_id;                     // whose time limit counts; empty: none
  double stop_before_limit = 60;  // seconds, at least; saves and steps that take longer count
  // Same text = same job: a leftover of it is adopted, of another one ended.
  std::string job;
  DeadlineConfig deadlines;
};

// From here on SIGINT, SIGTERM and SIGUSR1 wait until run_coordinator takes them: none is lost, and
// none ends a coordinator that is only starting.
void hold_signals();

// Runs a job to its end: launches, watches, relaunches, stops. Returns the exit code. One thread;
// takes SIGINT, SIGTERM, SIGUSR1 and SIGCHLD while it runs. Throws ConfigError when another
// coordinator holds the run directory.
int run_coordinator(const CoordinatorSettings& settings);

}  // namespace espalier
