#include "launch/coordinator/launchers/handed_down.h"
#include "launch/coordinator/launchers/launcher.h"

namespace espalier {

LaunchCommand local_command(const LaunchRequest& request, const MachineView& machine) {
  LaunchCommand command;
  command.program = request.program;
  command.arguments = request.arguments;
  command.arguments.insert(command.arguments.begin(), request.program);
  command.environment = rank_environment(request, machine);
  return command;
}

}  // namespace espalier
