#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "models/weights/safetensors.h"
#include "trainer/config/run_config.h"
#include "trainer/registry.h"
#include "trainer/run.h"

namespace espalier {

// A room of the tests' own: the kind "toy" of a model and the kind "toy_regression" of an
// objective. The model has what makes a training hard to resume: a trunk and two branches of which
// an objective uses one; the objective has dropout keyed by the slot and a statistic outside of the
// gradients.
void add_toy(Registry& registry);

struct ToyOptions {
  int64_t width = 8;
  std::vector<int64_t> bad_steps = {};  // the loss of slot 0 is not finite in these
  int64_t broken_state_at = -1;         // after this step a statistic is not finite
  int64_t dies_at = -1;                 // a loss of the second stage throws in this step
};

// TOML of a run of toy stages in `directory`: 12 samples a step in 6 slots, 2 stages of `steps`
// steps, "first" trains the model "one" and "second" the model "two".
std::string toy_toml(const std::string& directory, int64_t steps, const ToyOptions& options = {});
// Read from that.
RunConfig toy_config(const std::string& directory, int64_t steps, const ToyOptions& options = {},
                     const std::vector<std::string>& sets = {});

struct ToyResult {
  RunOutcome outcome = RunOutcome::kFinished;
  std::map<int64_t, double> losses;  // the total of every reported step, by global step
};

// Trains on `world` ranks that are threads. `stop_after` >= 0: the last rank asks to stop when that
// many steps are done.
ToyResult train_toy(const RunConfig& config, int world, int64_t stop_after = -1,
                    const RunOptions& options = {});

// Of the run's events.jsonl.
std::vector<nlohmann::json> read_events(const std::string& directory);

// All tensors of the newest checkpoint of a run.
TensorMap newest_tensors(const std::string& directory);

// "" when both maps have the same names, shapes, types and bits; else what differs first.
std::string first_difference(const TensorMap& a, const TensorMap& b);

// A fresh path under the test's temporary folder, not yet made.
std::string fresh_directory(const std::string& name);
// The text as a file in a fresh directory.
std::string write_config(const std::string& text);

}  // namespace espalier
