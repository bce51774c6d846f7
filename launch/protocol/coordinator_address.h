#pragma once

#include <cstdint>
#include <string>

#include "launch/protocol/host_identity.h"

namespace espalier {

// Where a run's coordinator is: RUN/coordinator.json, there as long as it lives. Holds no secret.
struct CoordinatorAddress {
  std::string address = "127.0.0.1";  // what it listens on
  uint16_t control_port = 0;
  uint16_t status_port = 0;  // the page, always on loopback
  std::string certificate;   // PEM, the only one that it will show; "" = plain TCP
  std::string tokens;        // the folder with a token for each role
  int pid = 0;
  HostIdentity host;

  // Throws ConfigError when there is none, or it cannot be understood.
  static CoordinatorAddress load(const std::string& path);
  std::string text() const;

  // Nobody on another machine can reach it.
  bool is_loopback() const;
};

}  // namespace espalier
