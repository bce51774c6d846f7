#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json_fwd.hpp>

#include "comm/communicator.h"
#include "comm/reduction/gradient_reducer.h"
#include "models/weights/safetensors.h"
#include "trainer/run_observer.h"

namespace espalier {

// One slot of a step: the samples of one task that go through one forward and backward together.
// Stages derive from it to carry their inputs, as CPU tensors that losses() moves to the device.
struct MicroBatch {
  virtual ~MicroBatch() = default;
  int64_t step = 0;  // set by load(), so that losses() can key its random numbers by (step, slot)
  int64_t slot = 0;
  std::string task;
  int64_t samples = 0;
  std::vector<bool> groups;           // per parameter group: this backward touches it
  std::vector<double> target_counts;  // per loss name: valid targets in this slot
};

struct EvaluationRequest {
  std::string directory;          // pictures are written here; it exists
  std::string picture_prefix;     // "tokenizer-0000400": start of every picture's file name
  int64_t step = 0;               // steps of this stage done so far
  bool is_final = false;          // every metric; otherwise the quick ones worth the wait
  std::vector<std::string> data;  // shards to use instead of the run's own test split
  int64_t max_samples = 0;        // 0 = all
};

// One entry of the config's list of stages: what is trained, on what, with which losses. The step
// loop owns ranks, optimizer, precision and checkpoints; a stage owns its model and its data.
// All calls come from the training thread, except load().
class Stage {
 public:
  virtual ~Stage() = default;

  // What the optimizer updates, in a fixed order, e.g. trunk, understanding, generation. A group
  // that no rank touches in a step is neither reduced nor updated.
  virtual std::vector<ParameterGroup> parameter_groups() = 0;

  virtual std::vector<std::string> loss_names() const = 0;
  virtual std::vector<double> loss_weights() const = 0;  // same order

  // Pure function of (seed, step, slot), slot in [0, batch_size / micro_batch_size), so that the
  // world size never changes the data. Called on the prefetch thread, beside losses().
  virtual std::unique_ptr<MicroBatch> load(int64_t step, int64_t slot) = 0;

  // Per loss name the SUM over its valid targets (scalar, fp32), undefined where the task has no
  // such loss. Runs under the loop's autocast guard. The loop divides by the global count of
  // targets, weights, adds and runs backward. Random numbers: from (seed, step, slot) only.
  virtual std::vector<at::Tensor> losses(const MicroBatch& batch, int64_t step) = 0;

  // After the update of a step, on every rank: statistics that gradients do not carry (codebook
  // counts and sums) are reduced and applied here, identically on all ranks.
  virtual void after_optimizer(Communicator& /*comm*/, int64_t /*step*/) {}

  // Instead of after_optimizer() when the step's gradients were not finite (all ranks agree):
  // whatever losses() gathered during the step is dropped.
  virtual void skip_step(int64_t /*step*/) {}

  // Every persistent tensor by name, parameters included, equal on all ranks. They alias live
  // storage: loading a checkpoint copies into them. Names, shapes and dtypes do not change.
  virtual TensorMap state() = 0;

  // State was overwritten from outside (checkpoint loaded, averaged weights swapped in or out):
  // caches derived from it are dropped.
  virtual void state_changed() {}

  // Collective; work split over ranks; the result is valid on rank 0. Keys are those of the report
  // ("tokenizer" or "understanding" and "generation"); an optional "pictures" lists files written.
  // The stage switches its modules to evaluation mode and back, and takes no gradients.
  virtual nlohmann::json evaluate(Communicator& comm, const EvaluationRequest& request) = 0;

  // Identifies the training data; a resume that sees another one says so. "" = not known.
  virtual std::string data_fingerprint() const { return ""; }
};

struct RunConfig;
struct StageConfig;

// What a stage is built from. Building is done by every rank with the same result: whatever is
// derived from data (text vocabulary, initial codebooks) is a pure function of config and files.
struct StageContext {
  const RunConfig& config;
  const StageConfig& stage;
  at::Device device;
  Communicator& comm;
  std::vector<Stage*> earlier;  // the stages before this one, trained, in order
  bool for_training = true;     // false: only state(), evaluate() and inference will be called
  WorkListener on_work = [](const WorkReport&) {};  // told how far long preparations are
};

// trainer/tokenizer_stage.cpp and trainer/unified_stage.cpp.
std::unique_ptr<Stage> make_tokenizer_stage(const StageContext& context);
std::unique_ptr<Stage> make_unified_stage(const StageContext& context);

}  // namespace espalier
