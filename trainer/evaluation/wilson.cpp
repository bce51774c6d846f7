#include "trainer/evaluation/wilson.h"

#include <algorithm>
#include <cmath>

namespace espalier {

Interval wilson_interval(int64_t hits, int64_t n) {
  if (n < 1) return {};
  constexpr double z = 1.959963984540054;  // of the normal distribution at 97.5 %
  const auto trials = static_cast<double>(n);
  const double p = static_cast<double>(hits) / trials, square = z * z / trials;
  const double middle = (p + square / 2) / (1 + square);
  const double half = z / (1 + square) * std::sqrt(p * (1 - p) / trials + square / (4 * trials));
  return {std::max(0.0, middle - half), std::min(1.0, middle + half)};
}

}  // namespace espalier
