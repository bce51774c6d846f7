#pragma once

#include <cstdint>
#include <string>

#include "trainer/named/named_things.h"
#include "trainer/stage.h"

namespace espalier {

// Writes what another implementation needs to train the same stage on the same data in the same
// order: the weights to start from ("weights.NAME", names as in a checkpoint), the tensors of every
// slot of the first `steps` steps ("batch.STEP.SLOT.OBJECTIVE.NAME", objectives by their index in
// the stage), and, as JSON in the file's metadata under "setup", the model's shape, the learning
// rates, the optimizer's constants, the losses with their weights and, by step, their shares, and
// every slot's objectives and targets.
//
// ConfigError for a model or an objective that a peer cannot be told about.
void dump_training(const std::string& path, NamedThings& things, Stage& stage, int64_t steps);

}  // namespace espalier
