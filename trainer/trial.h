#pragma once

#include "trainer/named/named_things.h"

namespace espalier {

// What a stage costs on this machine, as tried.
struct TrialTimes {
  double prepare_s = 0;  // codes and features of all samples, which are made before the first step
  double step_s = 0;     // of one rank, without the exchange with others
  // Host memory of this process: the most while forward and backward ran, without an optimizer's
  // moments, and what of it were activations.
  double peak_bytes = 0, activation_bytes = 0;
  // Pictures of the whole data sets that a run keeps in memory, and a trial does not.
  double more_pictures_bytes = 0;
};

// Trains a little of a stage for real: of every mix of its objectives one micro-batch to warm up
// and two that are timed, then one update of the weights, on a few samples of its data. What a
// training would refuse or fail at is thrown here. Leaves `things` with those few samples, and with
// weights that nobody wants.
TrialTimes try_stage(NamedThings& things, const StageConfig& config, int world_size);

}  // namespace espalier
