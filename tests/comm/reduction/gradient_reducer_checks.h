#pragma once

#include "comm/communicator.h"

namespace espalier {

// Trains a small Y-shaped model for some steps in which ranks run different tasks, or none, and
// compares the gradients of every step with plain autograd over the union of the batches. `slots`:
// micro-batches per step over all ranks; more than one on a rank means accumulation.
void check_gradients_equal_the_union_of_batches(Communicator& communicator, int slots);

// In a backward over several layers, the first bucket has left, and travels to its end, while the
// gradient of the first layer is yet to come.
void check_buckets_travel_during_backward(Communicator& communicator);

}  // namespace espalier
