#pragma once

#include <string>

#include "trainer/config/run_config.h"

namespace espalier {

// `espalier train --dry-run`: everything that would stop the run later is checked now (batch sizes,
// data, teachers, models and objectives of every stage, run directory, disk), and nothing is
// trained or written. Returns the report: stages, parameters, memory per rank. Throws what the run
// would throw.
std::string dry_run(const RunConfig& config, int world_size);

}  // namespace espalier
