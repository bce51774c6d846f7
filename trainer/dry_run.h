#pragma once

#include <string>

#include <c10/core/Device.h>

#include "trainer/config/run_config.h"
#include "trainer/run.h"

namespace espalier {

// `espalier train --dry-run`: everything that would stop the run later is checked now (batch sizes,
// data, teachers, models and objectives of every stage, run directory, disk), and nothing is
// trained or written. Returns the report: the checkpoint it would go on from, stages, parameters,
// memory per rank, time. Of `options` only `extends` and `fork_from` count. Throws what the run
// would throw.
std::string dry_run(const RunConfig& config, int world_size, const RunOptions& options = {});

// The quick part of it that is about this machine: device, backend and the memory for the models.
// A launch asks before it starts ranks here. Returns the device of a first rank.
at::Device check_machine(const RunConfig& config, int world_size);

}  // namespace espalier
