#pragma once

#include <cstdint>
#include <string>

#include "launch/coordinator/launchers/launcher.h"

namespace espalier {

MachineView this_machine();

// Starts the launcher in a session of its own, so that Ctrl-C in the terminal reaches only the
// coordinator, and with no file of the coordinator's open. Returns its pid; throws
// std::runtime_error when it cannot be started.
int spawn_launcher(const LaunchRequest& request, const MachineView& machine);

// Where the ranks of a run that are on this host keep their shared memory: a folder of its own, so
// that what a killed launcher leaves can be removed. Empty where there is no /dev/shm.
std::string shared_memory_directory(const std::string& run_directory);

// Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat); 0 when there is
// no such process or it has ended and only waits to be reaped.
uint64_t process_start_time(int pid);
bool is_alive(int pid, uint64_t start_time);
// All that a session's leader started here and that made no session of its own, and the leader.
std::vector<int> processes_of_session(int leader);

// Full path of a program on PATH; empty when there is none.
std::string find_program(const std::string& name);

}  // namespace espalier
