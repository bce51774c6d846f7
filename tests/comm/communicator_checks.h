#pragma once

#include "comm/communicator.h"

namespace espalier {

// What every backend must do, for worlds of any size. Called on all ranks.
void check_reductions_of_every_type(Communicator& communicator, at::Device device = at::kCPU);
void check_large_sums_have_the_same_bits_everywhere(Communicator& communicator,
                                                    at::Device device = at::kCPU);
void check_broadcast_and_gather(Communicator& communicator, at::Device device = at::kCPU);
void check_operations_in_flight_finish_in_order(Communicator& communicator,
                                                at::Device device = at::kCPU);
void check_preconditions(Communicator& communicator);

}  // namespace espalier
