#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/reduction/gradient_reducer.h"
#include "models/layers/packed_upload.h"
#include "models/weights/safetensors.h"
#include "trainer/models/model.h"
#include "trainer/named/named_things.h"
#include "trainer/objectives/objective.h"
#include "trainer/update/freeze_schedule.h"
#include "trainer/update/step_plan.h"

namespace espalier {

// A loss as the step loop knows it.
struct StageLoss {
  std::string name;  // "residual_evolution/pixel"
  double weight = 1.0;
  int64_t objective = 0;
};

// One slot of a step: what each objective that takes part has prepared.
struct SlotBatch {
  std::vector<std::unique_ptr<ObjectiveBatch>> parts;
  PackedUpload upload;  // of all their tensors; send() before compute() makes one copy of many
};

// One entry of the config's list of stages at work: the model it trains, the objectives it mixes,
// and the plan of which runs when. The step loop owns ranks, optimizer, precision and checkpoints.
// All calls come from the training thread, except load().
class Stage {
 public:
  // Builds what it needs of `things`. `for_training` false: only evaluate() will be called.
  // ConfigError when a pattern of `freeze` fits no parameter, or all are frozen.
  Stage(NamedThings& things, const StageConfig& config, bool for_training);
  ~Stage();  // frozen parameters may be trained again
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  const StageConfig& config() const { return config_; }
  const StepPlan& plan() const { return plan_; }

  // What the optimizer updates, in a fixed order: the model's groups, then each objective's own.
  // Frozen parameters are left out; those that a schedule freezes are groups of their own, so that
  // a group is either trained in a step or not, and what ranks exchange has one order.
  const std::vector<ParameterGroup>& parameter_groups() const { return groups_; }
  // As they are called in a checkpoint, in the order of the groups.
  const std::vector<std::string>& parameter_names() const { return parameter_names_; }
  const std::vector<std::string>& frozen_names() const { return frozen_names_; }
  const std::vector<StageLoss>& losses() const { return losses_; }
  // By objective: indices of the groups that it reaches.
  const std::vector<std::vector<size_t>>& groups_of() const { return groups_of_; }

  // By group: whether any slot of the step, on any rank, reaches it, and it is not frozen then.
  std::vector<bool> groups_in_step(int64_t step) const;
  // Before the forward passes of a step: what is frozen then takes no gradients.
  void begin_step(int64_t step);
  std::vector<bool> groups_in_slot(const SlotBatch& batch) const;
  // What a loss counts in this step: the slots its objective gets, over those it gets on average.
  // So the mean over steps does not depend on how many slots a step has.
  double share_of_step(const StageLoss& loss, int64_t step) const;

  // Pure function of (seed, step, slot), slot in [0, slots), so that the world size never changes
  // the data. Called on the prefetch thread.
  SlotBatch load(int64_t step, int64_t slot);
  // The same in as many passes as it takes for none to have more than tokens_per_pass, but for a
  // single sample that has. Their losses and gradients add up to those of load().
  std::vector<SlotBatch> load_passes(int64_t step, int64_t slot);
  // Adds the slot's targets to `counts`, by loss.
  void count_targets(const SlotBatch& batch, std::vector<double>& counts) const;
  // By loss the sum over this slot's targets, undefined where it has none.
  std::vector<at::Tensor> compute(const SlotBatch& batch);

  // Of the objectives that had a slot in the step; `applies` as Objective::after_update() has it.
  void after_update(Communicator& comm, int64_t step, const at::Tensor& applies = {});
  void skip_update();
  void state_changed();

  // Every persistent tensor under its name in a checkpoint, aliasing live storage: the model's and
  // the objectives'.
  TensorMap state();
  // Tensors beyond parameters that averaged weights cover, under the same names.
  TensorMap averaged_buffers();

  // One section per objective; only those whose names are in `only`, unless that is empty.
  // Collective; valid on rank 0.
  std::vector<Section> evaluate(EvaluationRequest request,
                                const std::vector<std::string>& only = {});
  std::string data_fingerprint() const;

 private:
  void collect_losses();
  void collect_groups();
  void require_passes() const;
  SlotBatch load_turns(const std::vector<Turn>& turns);
  void cut_into_passes(const std::vector<Turn>& turns, std::vector<SlotBatch>& passes);
  void freeze();
  void split_by_schedule();
  // ConfigError naming the first pattern that was not used.
  void require_used(const std::vector<bool>& used, const std::vector<std::string>& patterns,
                    const std::string& setting) const;
  bool is_frozen(size_t group, int64_t step) const;
  int64_t loss_index(int64_t objective, const std::string& loss) const;

  NamedThings& things_;
  const StageConfig& config_;
  Model& model_;
  std::vector<std::unique_ptr<Objective>> objectives_;
  StepPlan plan_;
  std::vector<StageLoss> losses_;
  std::vector<ParameterGroup> groups_;
  std::vector<std::string> parameter_names_;
  std::vector<std::vector<size_t>> groups_of_;  // by objective: indices of groups that it reaches
  std::vector<std::vector<FreezeSpan>> spans_of_;  // by group
  std::vector<at::Tensor> frozen_;
  std::vector<std::string> frozen_names_;
};

// Names in a checkpoint.
std::string model_prefix(const std::string& model);
std::string objective_prefix(const std::string& model, const std::string& objective);

}  // namespace espalier
