#pragma once

#include <string>
#include <vector>

#include "tests/data/episodes/episode_files.h"
#include "trainer/config/run_config.h"

namespace espalier {

// A small world to model: 8 training, 2 validation and 2 test episodes of 2 to 6 steps with two
// views of 8 x 8 pixels, depth and trajectories of the first view and segmentation of both,
// continuous actions of two numbers, and a simulator of sums
// (tests/trainer/simulator/arithmetic_bridge.py) that shows pictures of that size.
class WorldFiles {
 public:
  explicit WorldFiles(bool is_discrete = false);

  // TOML of a run with a model "world" that has every kind of dream, and one stage "world": 8
  // windows a step in 4 slots. Its teacher is the segmentation.
  std::string toml(const std::string& directory) const;
  RunConfig config(const std::string& directory, const std::vector<std::string>& sets = {}) const;

 private:
  EpisodeFiles files_;
  std::string index_;  // path
};

}  // namespace espalier
