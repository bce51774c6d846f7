#include "trainer/update/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace espalier {

double learning_rate_at(const OptimizerConfig& config, int64_t step, int64_t steps) {
  const int64_t warmup = std::min(config.warmup_steps, steps);
  if (step < warmup) {
    // The first update is not wasted on a rate of zero.
    return config.learning_rate * static_cast<double>(step + 1) / static_cast<double>(warmup);
  }
  // The last update is not wasted either: the cosine would end one step after it.
  const auto decay_steps = static_cast<double>(std::max<int64_t>(1, steps - warmup));
  const double done = std::min(1.0, static_cast<double>(step - warmup) / decay_steps);
  const double cosine = 0.5 * (1.0 + std::cos(std::numbers::pi * done));
  return config.learning_rate * (config.final_fraction + (1.0 - config.final_fraction) * cosine);
}

}  // namespace espalier
