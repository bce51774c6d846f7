#include "launch/protocol/host_identity.h"

#include <filesystem>
#include <fstream>

#include "trainer/host/host_name.h"

namespace espalier {

HostIdentity this_host() {
  HostIdentity host;
  host.name = host_name();
  std::ifstream boot("/proc/sys/kernel/random/boot_id");
  std::getline(boot, host.machine);
  std::error_code none;
  host.machine += "/" + std::filesystem::read_symlink("/proc/self/ns/pid", none).string();
  return host;
}

}  // namespace espalier
