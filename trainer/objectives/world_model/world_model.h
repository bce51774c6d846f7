#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/world_model/world_losses.h"
#include "trainer/config/kind_settings.h"
#include "trainer/models/world_model.h"
#include "trainer/named/named_things.h"
#include "trainer/objectives/objective.h"
#include "trainer/objectives/world_model/semantic_targets.h"
#include "trainer/objectives/world_model/windows.h"

namespace espalier {

// Kind "world_model": actions of experts, and dreams of what the world will look like after them.
struct WorldModelObjectiveSettings : ObjectiveSettings {
  // Weights as published (DreamVLA, utils/train_utils.py).
  double action = 1.0, dynamic = 0.1, depth = 0.001, semantic = 0.01, trajectory = 0.1;
  int64_t future = 3;
  double condition_dropout = 0.1;
  int64_t noise_repeats = 8;
  double silog_lambda = 0.5;
  bool normalise_patches = true;
  double pixel_threshold = 0.1, region_share = 0.02;
  bool dilate = false;
  std::string dynamic_mean = "all";
  std::string teacher;
  std::string semantic_loss = "cosine";
  double temperature = 0.07;
  int64_t feature_memory_mib = 1024;
  int64_t rollouts = 100;
  bool ensemble = false;
  double action_temperature = 0.5;

  void declare(SettingsScope scope) override;
  void validate(const RunConfig& config, const std::string& where) const override;
  double weight_of(const std::string& loss) const;

 private:
  void declare_targets(SettingsScope scope);
};

struct WorldModelBatch : ObjectiveBatch {
  WindowBatch windows;
  at::Tensor region;     // (M * V, patches) fp32: 1 where the future differs; without dynamic: none
  at::Tensor semantic;   // (M * V, positions, channels) fp32; without semantic queries: none
  DiffusionDraws draws;  // of M chunks, without what counts; none for the direct head
  // What InfoNCE tells each of `semantic` from: the targets of the whole step, whoever trains them,
  // (R, channels); and where among them its own begin. Without: its own.
  at::Tensor candidates;
  int64_t first_candidate = 0;
  // Discrete actions of the direct head: places of those that count among all (M * T), and which
  // action each is, int64.
  at::Tensor counted_places, wanted_actions;

  std::vector<at::Tensor*> tensors() override;
};

class WorldModelObjective : public Objective {
 public:
  explicit WorldModelObjective(const ObjectiveContext& context);

  std::vector<LossSpec> loss_specs() const override;
  std::vector<std::string> parameter_groups_used() const override;
  std::unique_ptr<ObjectiveBatch> load(const Turn& turn) override;
  std::vector<LossTerm> losses(const ObjectiveBatch& batch) override;
  TensorMap state() override;
  Section evaluate(const EvaluationRequest& request) override;
  std::string data_fingerprint() const override;
  int64_t split_size() const override { return windows_ ? windows_->size() : 0; }

  // For its evaluation.
  const WorldModelObjectiveSettings& settings() const { return settings_; }
  const std::string& name() const { return name_; }
  NamedThings& things() const { return things_; }
  WorldModel& model() const { return model_; }
  uint64_t seed() const { return seed_; }
  const std::string& precision() const { return precision_; }  // of the stage
  bool dreams_of(const std::string& kind) const { return dream_index(kind).has_value(); }
  std::optional<size_t> dream_index(const std::string& kind) const;
  // Windows of any split; `streams` key what is random about each. `keep` as in SemanticTargets.
  std::unique_ptr<WorldModelBatch> make_batch(const EpisodeSet& set,
                                              const std::vector<EpisodeWindow>& windows,
                                              const std::vector<uint64_t>& streams, bool keep);
  // What semantic queries dream of, in the futures of a batch: (M * V, positions, channels).
  at::Tensor semantic_targets(const WindowBatch& batch) {
    return semantic_->make(batch, semantic_mean_, /*keep=*/false);
  }
  // Frames (N, 3, S, S) uint8 as the dynamic decoder draws them, (N, patches, 3 patch^2).
  at::Tensor dynamic_target(const at::Tensor& frames) const;
  // (M * views, patches, values of a patch), in cells.
  at::Tensor trajectory_target(const WindowBatch& windows) const;

 private:
  struct StepTargets {
    int64_t step = -1;
    at::Tensor rows;                  // (R, channels)
    std::vector<int64_t> first_rows;  // of each window of the step
  };

  EpisodeWindow window_at(int64_t position) const;
  const StepTargets& targets_of_step(const Turn& turn);
  void draw(WorldModelBatch& batch, const std::vector<uint64_t>& streams) const;
  void list_wanted_actions(WorldModelBatch& batch) const;
  void count(WorldModelBatch& batch) const;
  at::Tensor action_loss(const WorldModelBatch& batch, const WorldInputs& inputs,
                         const at::Tensor& hidden);
  at::Tensor dream_loss(size_t d, const WorldModelBatch& batch, const at::Tensor& dreamt) const;

  const WorldModelObjectiveSettings& settings_;
  const std::string name_;
  NamedThings& things_;
  WorldModel& model_;
  uint64_t seed_, order_seed_;
  const std::string precision_;
  std::optional<SemanticTargets> semantic_;
  at::Tensor semantic_mean_;  // (channels) fp32 on the CPU, of the training data
  const EpisodeSet* train_ = nullptr;
  std::optional<EpisodeWindows> windows_;  // of train_, which may be the split that is measured
  double dropout_ = 0;                     // of conditions
  StepTargets step_targets_;               // of the latest step; on the thread that loads
};

}  // namespace espalier
