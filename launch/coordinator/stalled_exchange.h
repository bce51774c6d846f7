#pragma once

#include <string>
#include <vector>

#include "launch/coordinator/rank_watch.h"

namespace espalier {

// When ranks wait for each other: "all_reduce(Float[512], sum), operation 1204: ranks 0, 2 wait in
// it, rank 1 has not come to it". "" when nobody waits, or ranks do not say. Pure.
std::string describe_stalled_exchange(const std::vector<RankView>& ranks);

}  // namespace espalier
