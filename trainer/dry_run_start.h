#pragma once

#include <optional>
#include <sstream>

#include "comm/communicator.h"
#include "trainer/checkpoint/checkpoint_loader.h"
#include "trainer/config/run_config.h"
#include "trainer/run.h"

namespace espalier {

// The checkpoint that a run would go on from, of which every file was read; none when it would
// start at step 0. Says so in `report`, and renames nothing. Throws what the run would throw.
std::optional<LoadedCheckpoint> find_dry_start(const RunConfig& config, const RunOptions& options,
                                               Communicator& comm, std::ostringstream& report);

}  // namespace espalier
