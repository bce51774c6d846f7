#include "trainer/evaluation/standard_error.h"

#include <cmath>
#include <limits>
#include <numeric>

namespace espalier {

double standard_error_of_share(double p, int64_t n) {
  if (n < 1) return std::numeric_limits<double>::quiet_NaN();
  return std::sqrt(p * (1.0 - p) / static_cast<double>(n));
}

double standard_error_of_mean(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  if (values.size() < 2) return std::numeric_limits<double>::quiet_NaN();
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / (n - 1) / n);
}

}  // namespace espalier
