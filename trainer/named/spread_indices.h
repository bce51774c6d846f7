#pragma once

#include <cstdint>
#include <vector>

namespace espalier {

// `count` of 0..size-1, evenly spread; all of them when count is 0 or more than there are.
std::vector<int64_t> spread_indices(int64_t count, int64_t size);

}  // namespace espalier
