#include "launch/protocol/host_identity.h"

#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>

namespace espalier {

HostIdentity this_host() {
  HostIdentity host;
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) == 0) host.name = name.data();
  std::ifstream boot("/proc/sys/kernel/random/boot_id");
  std::getline(boot, host.machine);
  std::error_code none;
  host.machine += "/" + std::filesystem::read_symlink("/proc/self/ns/pid", none).string();
  return host;
}

}  // namespace espalier
