#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "launch/coordinator/host_slots.h"

namespace espalier {

// What starts the ranks of one launch.
enum class LauncherKind {
  kAuto,    // choose_launcher decides
  kMpirun,  // Open MPI's: one host, a list of hosts, or a Slurm allocation
  kSrun,    // Slurm's, with PMIx, in an allocation
  kLocal,   // none: one rank, started directly
};
std::string_view name_of(LauncherKind kind);
// Throws ConfigError that says which there are.
LauncherKind parse_launcher(std::string_view name);

struct LaunchRequest {
  LauncherKind launcher = LauncherKind::kMpirun;
  int ranks = 1;
  std::vector<HostSlots> hosts;         // empty: this host, or the Slurm allocation
  std::string remote_agent;             // what starts a program on another host; empty: ssh
  std::string network_interfaces;       // "eth0" or "10.1.0.0/16", for ranks on several hosts
  std::string program;                  // the espalier program itself
  std::vector<std::string> arguments;   // of the program: train CFG ...
  std::string scratch_directory;        // for the launcher's session files on this host
  std::string shared_memory_directory;  // for what ranks of this host share; empty: /dev/shm itself
  std::string log_path;                 // stdout and stderr of the launcher
  std::map<std::string, std::string> environment;  // added for the ranks; file paths, never secrets
  std::vector<std::string> extra_launcher_arguments;
};

// What a Slurm allocation says of itself. nodes is 0 outside of one.
struct SlurmView {
  int nodes = 0;
  int tasks = 0;               // what was asked for by --ntasks and the like; 0 when nothing was
  std::string cpus_per_task;   // empty when nothing was asked for
  bool only_this_host = true;  // false: ranks may be on other hosts than this process
  bool in_step = false;        // this process is itself a task that srun started
  bool srun_has_pmix = false;
};

struct MachineView {
  bool is_root = false;
  int physical_cores = 1;  // Open MPI counts these as its slots
  std::vector<std::string> environment;
  std::string mpirun;  // full path; empty where there is none
  std::string srun;
  SlurmView slurm;
};

struct LaunchCommand {
  std::string program;
  std::vector<std::string> arguments;  // from argv[0] on; never a secret
  std::vector<std::string> environment;
};

// Pure, one file each.
// What mpirun says of arguments that it does not take, by asking for its version with them; ""
// where it takes them. Values that only a launch looks at are not tried.
std::string refused_by_mpirun(const std::vector<std::string>& arguments,
                              const MachineView& machine);
LaunchCommand mpirun_command(const LaunchRequest& request, const MachineView& machine);
LaunchCommand srun_command(const LaunchRequest& request, const MachineView& machine);
LaunchCommand local_command(const LaunchRequest& request, const MachineView& machine);
LaunchCommand launch_command(const LaunchRequest& request, const MachineView& machine);

// What an mpirun across hosts that is killed leaves of itself on this one.
std::string session_files_of_open_mpi(int launcher_pid);

struct LauncherChoice {
  LauncherKind kind;
  std::string why;  // for people
};
// What `asked` comes to on this machine. Throws ConfigError, with the remedy, for what cannot work.
LauncherChoice choose_launcher(LauncherKind asked, int ranks, bool has_hosts,
                               const MachineView& machine);

}  // namespace espalier
