#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "launch/coordinator/launchers/handed_down.h"
#include "launch/coordinator/launchers/launcher.h"
#include "launch/protocol/host_identity.h"
#include "launch/slurm/program_output.h"

namespace espalier {
namespace {

void append(std::vector<std::string>& out, std::initializer_list<std::string> more) {
  out.insert(out.end(), more);
}

// One host that is named may be another one.
bool is_on_other_hosts(const LaunchRequest& request, const MachineView& machine) {
  return !request.hosts.empty() || !machine.slurm.only_this_host;
}

// Hosts that are named have the slots that are named; an allocation has its tasks; and a machine
// alone has a slot for each core.
int slots_for(const LaunchRequest& request, const MachineView& machine) {
  int named = 0;
  for (const auto& host : request.hosts) named += host.slots;
  if (named > 0) return named;
  return machine.slurm.nodes > 0 ? std::max(1, machine.slurm.tasks) : machine.physical_cores;
}

std::string host_list(const std::vector<HostSlots>& hosts) {
  std::string text;
  for (const auto& host : hosts) {
    text += (text.empty() ? "" : ",") + host.name + ":" + std::to_string(host.slots);
  }
  return text;
}

// The user's arguments or environment say something about this parameter of Open MPI.
bool user_sets(const std::string& parameter, const LaunchRequest& request,
               const std::vector<std::string>& environment) {
  const auto& extra = request.extra_launcher_arguments;
  return std::find(extra.begin(), extra.end(), parameter) != extra.end() ||
         std::any_of(environment.begin(), environment.end(), [&](const std::string& entry) {
           return entry.starts_with("OMPI_MCA_" + parameter + "=");
         });
}

void add_for_this_host(std::vector<std::string>& out, const LaunchRequest& request,
                       const std::vector<std::string>& environment) {
  append(out, {"--mca", "orte_tmpdir_base", request.scratch_directory});
  if (!request.shared_memory_directory.empty()) {
    append(out, {"--mca", "btl_vader_backing_directory", request.shared_memory_directory});
  }
  // Shared memory is what Open MPI would choose; without these every rank listens on 0.0.0.0 too.
  if (!user_sets("pml", request, environment) && !user_sets("btl", request, environment)) {
    append(out, {"--mca", "pml", "ob1", "--mca", "btl", "self,vader"});
  }
}

void add_for_other_hosts(std::vector<std::string>& out, const LaunchRequest& request,
                         const std::vector<std::string>& environment) {
  // Ranks of a host are neighbours. Session files stay where each host has its temporary files.
  append(out, {"--map-by", "slot"});
  for (const auto& name : names_for_other_hosts(environment)) append(out, {"-x", name});
  if (!request.network_interfaces.empty()) {
    append(out, {"--mca", "oob_tcp_if_include", request.network_interfaces});
    append(out, {"--mca", "btl_tcp_if_include", request.network_interfaces});
  }
}

void add_hosts(std::vector<std::string>& out, const LaunchRequest& request) {
  append(out, {"--host", host_list(request.hosts)});
  // A host that lost its power or its network ends the launch within 11 s instead of eight minutes,
  // and one that is cut off empties itself (docs/hosts.md).
  append(out, {"--mca", "oob_tcp_keepalive_time", "5", "--mca", "oob_tcp_keepalive_intvl", "2"});
  append(out, {"--mca", "oob_tcp_keepalive_probes", "3"});
  // Every daemon is started from here: hosts need not reach each other by the agent.
  append(out, {"--mca", "plm_rsh_no_tree_spawn", "1"});
  if (!request.remote_agent.empty()) {
    append(out, {"--mca", "plm", "rsh", "--mca", "plm_rsh_agent", request.remote_agent});
  }
}

}  // namespace

std::string refused_by_mpirun(const std::vector<std::string>& arguments,
                              const MachineView& machine) {
  std::vector<std::string> command = {machine.mpirun};
  if (machine.is_root) command.emplace_back("--allow-run-as-root");
  command.insert(command.end(), arguments.begin(), arguments.end());
  command.push_back("--version");
  const std::string said = program_output(command, std::chrono::seconds(5));
  const std::string line = said.substr(0, said.find('\n'));
  return line.find("rror") == std::string::npos ? "" : line;
}

LaunchCommand mpirun_command(const LaunchRequest& request, const MachineView& machine) {
  LaunchCommand command;
  command.program = machine.mpirun;
  command.environment = rank_environment(request, machine);
  auto& out = command.arguments;
  // By its full path mpirun tells other hosts where it is installed, where no profile does.
  out = {request.hosts.empty() ? "mpirun" : machine.mpirun, "-n", std::to_string(request.ranks)};
  if (machine.is_root) append(out, {"--allow-run-as-root"});
  if (request.ranks > slots_for(request, machine)) append(out, {"--oversubscribe"});
  // Open MPI would bind every rank to one core, and two jobs on a machine to the same ones; a rank
  // here runs several threads and is bound by nobody unless --mpirun says otherwise.
  append(out, {"--bind-to", "none"});
  if (!request.hosts.empty()) add_hosts(out, request);
  if (is_on_other_hosts(request, machine)) {
    add_for_other_hosts(out, request, command.environment);
  } else {
    add_for_this_host(out, request, command.environment);
    for (const auto& [name, value] : request.environment) append(out, {"-x", name});
  }
  out.insert(out.end(), request.extra_launcher_arguments.begin(),
             request.extra_launcher_arguments.end());
  out.push_back(request.program);
  out.insert(out.end(), request.arguments.begin(), request.arguments.end());
  return command;
}

std::string session_files_of_open_mpi(int launcher_pid) {
  const char* folder = std::getenv("TMPDIR");
  return std::string(folder == nullptr ? "/tmp" : folder) + "/ompi." + this_host().name + "." +
         std::to_string(::geteuid()) + "/pid." + std::to_string(launcher_pid);
}

}  // namespace espalier
