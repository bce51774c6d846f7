#pragma once

#include <cstdint>
#include <string>

namespace espalier {

// Which of the checkpoints that a run keeps.
struct CheckpointChoice {
  int64_t step = -1;     // -1 = the newest
  bool is_best = false;  // the one that checkpoints/best names
};

// The directory of that checkpoint. ConfigError when `run_directory` is no run, or has no such
// checkpoint; it names those there are.
std::string chosen_checkpoint(const std::string& run_directory, const CheckpointChoice& choice);

}  // namespace espalier
