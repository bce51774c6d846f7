#pragma once

#include <cstdint>

namespace espalier {

struct Interval {
  double low = 0;
  double high = 1;
};

// Where the true share lies with 95 % confidence after `hits` of `n` independent trials (Wilson
// 1927): stays within 0 and 1, and says something even when all or none hit. [0, 1] for n = 0.
Interval wilson_interval(int64_t hits, int64_t n);

}  // namespace espalier
