#pragma once

#include <cstdint>
#include <span>

namespace espalier {

// How far a number would move were other samples drawn from the same source. NaN where it cannot be
// known: no samples, or one sample of a mean.

// Of a share `p` of n samples: sqrt(p (1 - p) / n).
double standard_error_of_share(double p, int64_t n);

// Of the mean of one value per sample: their standard deviation (n - 1) over sqrt(n).
double standard_error_of_mean(std::span<const double> values);

}  // namespace espalier
