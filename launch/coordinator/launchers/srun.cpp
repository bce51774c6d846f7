#include "launch/coordinator/launchers/handed_down.h"
#include "launch/coordinator/launchers/launcher.h"

namespace espalier {

LaunchCommand srun_command(const LaunchRequest& request, const MachineView& machine) {
  LaunchCommand command;
  command.program = machine.srun;
  command.environment = rank_environment(request, machine);
  if (!request.shared_memory_directory.empty() && machine.slurm.only_this_host) {
    command.environment.push_back("OMPI_MCA_btl_vader_backing_directory=" +
                                  request.shared_memory_directory);
  }
  // Ranks get srun's environment, which holds only what may be handed down; it replaces what
  // sbatch --export=NONE would make of it.
  command.arguments = {"srun",         "--mpi=pmix",   "--ntasks=" + std::to_string(request.ranks),
                       "--export=ALL", "--input=none", "--kill-on-bad-exit=1"};
  auto& out = command.arguments;
  // Since Slurm 22.05 a step does not take this over from its job by itself. Without it a rank
  // would be bound to a single core, where the site binds tasks.
  if (machine.slurm.cpus_per_task.empty()) {
    out.push_back("--cpu-bind=none");
  } else {
    out.push_back("--cpus-per-task=" + machine.slurm.cpus_per_task);
  }
  // A step within a step waits for ever for what the outer one holds.
  if (machine.slurm.in_step) out.push_back("--overlap");
  out.insert(out.end(), request.extra_launcher_arguments.begin(),
             request.extra_launcher_arguments.end());
  out.push_back(request.program);
  out.insert(out.end(), request.arguments.begin(), request.arguments.end());
  return command;
}

}  // namespace espalier
