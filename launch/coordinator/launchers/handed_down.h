#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "launch/coordinator/launchers/launcher.h"

namespace espalier {

// The environment of a launcher and its ranks: an allow-list of what the launcher, MPI, CUDA and
// OpenMP read, and nothing of a surrounding MPI job, with the request's own on top. NAME=VALUE.
std::vector<std::string> rank_environment(const LaunchRequest& request, const MachineView& machine);

// Names of it that mean the same on every host, so that mpirun must carry them there itself.
std::vector<std::string> names_for_other_hosts(const std::vector<std::string>& environment);

}  // namespace espalier
