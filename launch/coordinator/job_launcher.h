#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace espalier {

struct LaunchRequest {
  int ranks = 1;
  std::string program;                             // the espalier program itself
  std::vector<std::string> arguments;              // of the program: train CFG ...
  std::string scratch_directory;                   // for the launcher's session files
  std::string log_path;                            // stdout and stderr of the launcher
  std::map<std::string, std::string> environment;  // added for the ranks; file paths, never secrets
  std::vector<std::string> extra_launcher_arguments;
};

struct MachineView {
  bool is_root = false;
  int physical_cores = 1;  // Open MPI counts these as its slots
  std::vector<std::string> environment;
};
MachineView this_machine();

// Pure: the argv of mpirun, and the environment that is handed down (an allow-list: what the
// launcher, MPI, CUDA and OpenMP read, and nothing of a surrounding MPI job).
std::vector<std::string> mpirun_arguments(const LaunchRequest& request, const MachineView& machine);
std::vector<std::string> rank_environment(const LaunchRequest& request, const MachineView& machine);

// Starts the launcher in a session of its own, so that Ctrl-C in the terminal reaches only the
// coordinator. Returns its pid; throws std::runtime_error when it cannot be started.
int spawn_launcher(const LaunchRequest& request, const MachineView& machine);

// Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat); 0 when there is
// no such process or it has ended and only waits to be reaped.
uint64_t process_start_time(int pid);
bool is_alive(int pid, uint64_t start_time);

// Full path of a program on PATH; empty when there is none.
std::string find_program(const std::string& name);

}  // namespace espalier
