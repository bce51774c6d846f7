#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"
#include "comm/reduction/gradient_reducer.h"
#include "models/weights/safetensors.h"
#include "trainer/evaluation/section.h"
#include "trainer/update/step_plan.h"

namespace espalier {

class Model;
class NamedThings;
struct ObjectiveConfig;
struct RunConfig;
struct StageConfig;

// One loss of an objective. Reported as "objective/loss", or as the objective's name alone when
// `name` is empty: it has only this one.
struct LossSpec {
  std::string name;
  double weight = 1.0;
};

// How many targets a batch has for a loss, known before the forward pass.
struct LossCount {
  std::string name;
  double targets = 0;
};

// The SUM of a loss over its targets in one batch: scalar, fp32, with its graph.
struct LossTerm {
  std::string name;
  at::Tensor sum;
};

// What one objective does in one micro-batch, prepared on the prefetch thread. Objectives derive
// from it to carry their inputs, as CPU tensors that losses() moves to the device.
struct ObjectiveBatch {
  virtual ~ObjectiveBatch() = default;
  // What losses() will move, defined or not: these travel together, before losses() is called.
  virtual std::vector<at::Tensor*> tensors() { return {}; }
  Turn turn;
  std::vector<LossCount> counts;
  // Tokens of text, of images and of whatever else that go through the model: its throughput.
  double positions = 0;
};

struct EvaluationRequest {
  std::string directory;       // pictures are written here; it exists
  std::string picture_prefix;  // "codes-0000400-residual_evolution-": start of every file name
  bool is_final = false;       // every metric; otherwise the quick ones worth the wait
  std::string split = "test";  // of the objective's data set
  int64_t max_samples = 0;     // 0 = all
};

// Something a model is trained for: a data need, named losses, an evaluation. One folder of
// trainer/objectives each. Calls come from the training thread, except load().
class Objective {
 public:
  virtual ~Objective() = default;

  virtual std::vector<LossSpec> loss_specs() const = 0;

  // Names of the parameter groups of the model that a batch reaches; its own are always reached.
  virtual std::vector<std::string> parameter_groups_used() const = 0;

  // Pure function of the seed and the turn, so that the world size never changes the data. Called
  // on the prefetch thread, beside losses().
  virtual std::unique_ptr<ObjectiveBatch> load(const Turn& turn) = 0;

  // Whether load() takes a turn over a part of a micro-batch, and random numbers of a sample do not
  // depend on which part it is in.
  virtual bool can_split() const { return false; }

  // Runs under the loop's autocast guard; takes part in no collective. The loop divides by the
  // global count of targets, weights, adds and runs backward. Random numbers: from the turn only.
  virtual std::vector<LossTerm> losses(const ObjectiveBatch& batch) = 0;

  // Parameters and other tensors that belong to the objective and not to the model: heads, means.
  // Kept from stage to stage for objectives of the same name that train the same model.
  virtual std::vector<ParameterGroup> parameter_groups() { return {}; }
  virtual TensorMap state() { return {}; }
  virtual void state_changed() {}

  // After the update of a step, on every rank: statistics that gradients do not carry are reduced
  // and applied here, identically on all ranks. Collective. `applies` is undefined, or a bool of a
  // device that the host does not know: where it is false the gradients were not finite, nothing
  // may change, and what losses() gathered is dropped.
  virtual void after_update(Communicator& /*comm*/, const at::Tensor& /*applies*/) {}
  // Instead of it where the host knows that they were not: what losses() gathered is dropped.
  virtual void skip_update() {}

  // Collective; work is split over ranks; valid on rank 0. Takes no gradients.
  virtual Section evaluate(const EvaluationRequest& request) = 0;

  // Samples of one pass over the split that it was built for; 0 = it has none.
  virtual int64_t split_size() const { return 0; }

  // Identifies the training data; a resume that sees another one says so. "" = not known.
  virtual std::string data_fingerprint() const { return ""; }
};

// What an objective is built from, by every rank with the same result.
struct ObjectiveContext {
  const RunConfig& run;
  const StageConfig& stage;
  const ObjectiveConfig& objective;
  NamedThings& things;
  Model& model;
  // Keys the order of samples. Objectives that take part in every micro-batch have the same, and
  // see the same samples.
  uint64_t order_seed = 0;
  bool for_training = true;  // false: only state() and evaluate() will be called
  // What load() reads. "validation": to measure losses, so samples are neither mirrored nor
  // changed, and no condition is dropped; what a loss needs by its nature is drawn still: masks,
  // noise. Statistics of the training split come with state().
  std::string split = "train";
  bool is_measured() const { return split != "train"; }
};

// "stage.codes.objectives.masked_patches": how an error calls it.
std::string where_of(const ObjectiveContext& context);

}  // namespace espalier
