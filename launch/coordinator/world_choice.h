#pragma once

#include <string>
#include <vector>

#include "launch/coordinator/host_slots.h"

namespace espalier {

// With how many ranks a job may run. Pure.
struct WorldChoice {
  // Falling; the first is the full size. A size is there only if the job's batches divide by it.
  std::vector<int> sizes;
  // Ranks go to named hosts, of which some may be away; otherwise the launcher finds room.
  bool on_hosts = false;
};

// The ranks of one launch.
struct WorldPlan {
  int ranks = 0;  // 0: too few slots on the hosts that answer
  std::vector<HostSlots> hosts;
  std::string without;  // "b (does not answer), c (...)": hosts that are away; "" = none
};

// The largest size that finds room, on the hosts that answer in the order of the list.
WorldPlan plan_world(const WorldChoice& choice, const std::vector<HostState>& hosts);

}  // namespace espalier
