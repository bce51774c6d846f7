#pragma once

#include <string>
#include <vector>

#include "models/image_tokenizer/image_tokenizer.h"
#include "trainer/config/kind_settings.h"
#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/named/named_things.h"
#include "trainer/named/teacher_targets.h"
#include "trainer/objectives/objective.h"

namespace espalier {

// Kind "residual_evolution", after EvoTok: the early residual stages of an image tokenizer are
// decoded to pixels, all of them together toward the features of a frozen teacher. Images see a
// random number of stages, so that every depth of the cascade stands by itself.
struct ResidualEvolutionSettings : ObjectiveSettings {
  std::string teacher;
  std::string label_field = "group";
  bool flip = true;
  double all_pixel_stages = 0.5;
  double all_stages = 0.7;
  double pixel = 1.0;  // weights
  double commitment = 0.25;
  double semantic = 0.1;

  void declare(SettingsScope scope) override;
  void validate(const RunConfig& config, const std::string& where) const override;
};

// One micro-batch of images with everything random about it already drawn.
struct ResidualEvolutionBatch : ObjectiveBatch {
  TokenizerBatch inputs;
  at::Tensor candidate_rows;  // (stages, K) int64: rows of this slot offered to dead codes, or -1

  std::vector<at::Tensor*> tensors() override {
    return {&inputs.images, &inputs.pixel_depth, &inputs.semantic_depth, &inputs.teacher,
            &candidate_rows};
  }
};

class ResidualEvolution : public Objective {
 public:
  explicit ResidualEvolution(const ObjectiveContext& context);

  std::vector<LossSpec> loss_specs() const override;
  std::vector<std::string> parameter_groups_used() const override;
  std::unique_ptr<ObjectiveBatch> load(const Turn& turn) override;
  std::vector<LossTerm> losses(const ObjectiveBatch& batch) override;
  TensorMap state() override { return {{"teacher_mean", teacher_mean_}}; }
  void after_update(Communicator& comm, const at::Tensor& applies) override;
  void skip_update() override { statistics_.zero_(); }
  Section evaluate(const EvaluationRequest& request) override;
  std::string data_fingerprint() const override;
  int64_t split_size() const override { return train_ == nullptr ? 0 : train_->size(); }

  // For its evaluation.
  const ResidualEvolutionSettings& settings() const { return settings_; }
  const std::string& name() const { return name_; }
  NamedThings& things() const { return things_; }
  ResidualImageTokenizer& model() const { return model_; }
  const at::Tensor& teacher_mean() const { return teacher_mean_; }

 private:
  bool has_teacher() const { return !settings_.teacher.empty(); }
  at::Tensor candidate_rows(const Turn& turn) const;

  const ResidualEvolutionSettings& settings_;
  const std::string name_;
  NamedThings& things_;
  ResidualImageTokenizer& model_;
  uint64_t seed_, order_seed_;
  const ImageSplit* train_ = nullptr;  // or the split that is measured
  bool flips_ = false;
  TeacherTargets teacher_;
  at::Tensor teacher_mean_;  // (C) over the training images
  at::Tensor statistics_;    // of this step's vectors, for the codebooks
};

// evaluation.cpp: PSNR, use of codes, cosine to the teacher and nearest neighbours, by number of
// stages, beside codecs of as many bytes and simpler classifiers.
Section evaluate_residual_evolution(ResidualEvolution& objective, const EvaluationRequest& request);

}  // namespace espalier
