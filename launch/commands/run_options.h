#pragma once

#include "launch/commands/commands.h"
#include "trainer/run.h"

namespace espalier {

// What the command line asks of a run, on whatever ranks.
RunOptions options_of(const TrainArguments& arguments);

}  // namespace espalier
