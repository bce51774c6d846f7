#pragma once

#include <cstdint>
#include <string>

#include "trainer/config/run_config.h"
#include "trainer/stage.h"

namespace espalier {

// Writes what another implementation needs to train the same stage on the same data in the same
// order: the weights to start from ("weights.NAME"), the tensors of every slot of the first `steps`
// steps ("batch.STEP.SLOT.NAME"), and, as JSON in the file's metadata under "setup", the model's
// shape, the learning rates, the optimizer's constants, the loss weights and every slot's targets.
void dump_training(const std::string& path, const RunConfig& config,
                   const StageConfig& stage_config, Stage& stage, int64_t steps);

}  // namespace espalier
