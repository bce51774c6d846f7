#pragma once

#include <string>

namespace espalier {

// A machine for ranks, and how many it takes.
struct HostSlots {
  std::string name;
  int slots = 1;
};

// Whether it can be used now.
struct HostState {
  HostSlots host;
  bool answers = true;
  std::string why = {};  // when it does not
};

}  // namespace espalier
