#include "launch/coordinator/world_choice.h"

#include <algorithm>

namespace espalier {

WorldPlan plan_world(const WorldChoice& choice, const std::vector<HostState>& hosts) {
  WorldPlan plan;
  int slots = 0;
  for (const HostState& state : hosts) {
    if (state.answers) {
      slots += state.host.slots;
    } else {
      plan.without += (plan.without.empty() ? "" : ", ") + state.host.name +
                      (state.why.empty() ? "" : " (" + state.why + ")");
    }
  }
  const auto fits = std::find_if(choice.sizes.begin(), choice.sizes.end(),
                                 [slots](int size) { return size <= slots; });
  if (fits == choice.sizes.end()) return plan;
  plan.ranks = *fits;
  int left = plan.ranks;
  for (const HostState& state : hosts) {
    if (!state.answers || left == 0) continue;
    const int taken = std::min(left, state.host.slots);
    if (taken > 0) plan.hosts.push_back({state.host.name, taken});
    left -= taken;
  }
  return plan;
}

}  // namespace espalier
