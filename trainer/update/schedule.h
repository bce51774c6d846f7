#pragma once

#include <cstdint>

#include "trainer/config/run_config.h"

namespace espalier {

// Learning rate of a step counted from 0: a linear rise over warmup_steps, then half a cosine down
// to final_fraction of the peak, which the step after the last would have.
double learning_rate_at(const OptimizerConfig& config, int64_t step, int64_t steps);

}  // namespace espalier
