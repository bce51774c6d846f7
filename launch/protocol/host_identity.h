#pragma once

#include <string>

namespace espalier {

// Where a process runs. Process numbers mean something on one machine only: nothing may be looked
// up or killed by number before `machine` was compared.
struct HostIdentity {
  std::string name;  // for people: the host's name
  // The boot of the kernel and the process number space: containers may share a name, and a
  // machine that was booted again has other processes.
  std::string machine;
};

HostIdentity this_host();

}  // namespace espalier
