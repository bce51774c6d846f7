#pragma once

#include <CLI/CLI.hpp>

#include "launch/commands/commands.h"

namespace espalier {

// --step and --best of every command that reads a checkpoint of a run.
inline void add_checkpoint_options(CLI::App* command, CheckpointArguments* arguments) {
  auto* step = command
                   ->add_option("--step", arguments->step,
                                "The checkpoint of this step; default: the newest")
                   ->check(CLI::NonNegativeNumber);
  command->add_flag("--best", arguments->is_best, "The checkpoint that checkpoint.best chose")
      ->excludes(step);
}

}  // namespace espalier
