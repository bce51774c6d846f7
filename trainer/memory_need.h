#pragma once

#include "trainer/config/run_config.h"

namespace espalier {

// Throws ConfigError when a model is larger than the memory of this machine, by a lower bound that
// its settings alone give: before weights are drawn, which takes minutes and then fails. On a CPU
// a model that is trained counts with gradients and the optimizer's two moments.
void require_memory(const RunConfig& config);

double memory_of_this_machine();  // bytes

}  // namespace espalier
