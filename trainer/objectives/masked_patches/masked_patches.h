#pragma once

#include <string>
#include <vector>

#include "models/masked_autoencoder/masked_patches.h"
#include "trainer/config/kind_settings.h"
#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/named/named_things.h"
#include "trainer/named/teacher_targets.h"
#include "trainer/objectives/objective.h"

namespace espalier {

// Kind "masked_patches", after MR-MAE: the encoder sees a few patches of an image; a head mimics
// the teacher at these, a light decoder reconstructs the pixels of the others.
struct MaskedPatchesSettings : ObjectiveSettings {
  std::string teacher;
  bool flip = true;
  double mask_ratio = 0.75;
  int64_t width = 64;
  double mimic = 0.05;  // weights
  double reconstruct = 1.0;

  void declare(SettingsScope scope) override;
  void validate(const RunConfig& config, const std::string& where) const override;
};

struct MaskedPatchesBatch : ObjectiveBatch {
  at::Tensor images;   // (B, 3, S, S) fp32 in [-1, 1]
  at::Tensor teacher;  // (B, positions / 4, C) bf16, centred
  VisibleGrid grid;

  std::vector<at::Tensor*> tensors() override {
    return {&images, &teacher, &grid.visible, &grid.fine_neighbours, &grid.coarse_neighbours};
  }
};

// Uniform numbers in [0, 1) that depend on nothing but seed and stream.
void fill_noise(at::Tensor row, uint64_t seed, uint64_t stream);

class MaskedPatchesObjective : public Objective {
 public:
  explicit MaskedPatchesObjective(const ObjectiveContext& context);

  std::vector<LossSpec> loss_specs() const override;
  std::vector<std::string> parameter_groups_used() const override;
  std::unique_ptr<ObjectiveBatch> load(const Turn& turn) override;
  std::vector<LossTerm> losses(const ObjectiveBatch& batch) override;
  std::vector<ParameterGroup> parameter_groups() override;
  TensorMap state() override;
  Section evaluate(const EvaluationRequest& request) override;
  std::string data_fingerprint() const override;
  int64_t split_size() const override { return train_ == nullptr ? 0 : train_->size(); }

 private:
  VisibleGrid grid_on_device(VisibleGrid grid) const;
  // evaluation.cpp
  VisibleGrid evaluation_grid(const at::Tensor& indices) const;
  at::Tensor teacher_of(const EvaluationRequest& request, const std::vector<int64_t>& chosen);
  at::Tensor measure(const ImageSet& images, const at::Tensor& teacher);
  Picture write_picture(const ImageSet& images, const EvaluationRequest& request);

  const MaskedPatchesSettings& settings_;
  const std::string name_;
  NamedThings& things_;
  ResidualImageTokenizer& model_;
  uint64_t seed_, order_seed_;
  int64_t keep_;  // patches that stay visible
  MaskedPatches heads_{nullptr};
  const ImageSplit* train_ = nullptr;  // or the split that is measured
  bool flips_ = false;
  TeacherTargets teacher_;
  at::Tensor teacher_mean_;  // (C)
};

}  // namespace espalier
