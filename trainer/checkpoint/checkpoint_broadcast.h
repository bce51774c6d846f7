#pragma once

#include <cstdint>

#include "comm/communicator.h"
#include "trainer/checkpoint/checkpoint_loader.h"

namespace espalier {

// Collective. What rank 0 has read, on every rank: for disks that only rank 0 sees. Tensors travel
// in pieces of at most `piece_bytes`.
void broadcast_checkpoint(Communicator& comm, LoadedCheckpoint& loaded,
                          int64_t piece_bytes = 16 << 20);

}  // namespace espalier
