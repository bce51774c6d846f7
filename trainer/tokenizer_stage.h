#pragma once

#include <memory>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "models/image_tokenizer/image_tokenizer.h"
#include "trainer/config/run_config.h"
#include "trainer/stage.h"

namespace espalier {

ImageTokenizerOptions tokenizer_options(const RunConfig& config);

// Images, group labels and, once asked for, what the teacher sees in them.
struct TokenizerData {
  at::Tensor images;  // (N, 3, S, S) uint8
  std::vector<std::string> groups;
  std::string fingerprint;
  at::Tensor teacher;  // (N, views, L / 4, C) bf16, centred; view 1 is mirrored

  bool is_empty() const { return !images.defined(); }
  int64_t size() const { return images.size(0); }
};
TokenizerData read_tokenizer_data(const std::vector<std::string>& paths, const RunConfig& config);

// One slot of images with everything random about it already drawn.
struct TokenizerMicroBatch : MicroBatch {
  TokenizerBatch inputs;
  at::Tensor candidate_rows;  // (stages, K) int64: rows of this slot offered to dead codes, or -1
};

class TokenizerEvaluation;

// Trains the image tokenizer: pixels for the early residual stages, a frozen teacher's features for
// all of them, and a masked pass that mimics at visible patches and reconstructs masked ones.
class TokenizerStage : public Stage {
 public:
  explicit TokenizerStage(const StageContext& context);
  ~TokenizerStage() override;

  std::vector<ParameterGroup> parameter_groups() override;
  std::vector<std::string> loss_names() const override;
  std::vector<double> loss_weights() const override;
  std::unique_ptr<MicroBatch> load(int64_t step, int64_t slot) override;
  std::vector<at::Tensor> losses(const MicroBatch& batch, int64_t step) override;
  void after_optimizer(Communicator& comm, int64_t step) override;
  void skip_step(int64_t step) override;
  TensorMap state() override;
  nlohmann::json evaluate(Communicator& comm, const EvaluationRequest& request) override;
  std::string data_fingerprint() const override { return train_.fingerprint; }

  // Frozen from here on for the stages behind; the module is shared, not copied.
  ImageTokenizer tokenizer() const { return model_; }

 private:
  void load_teacher(const StageContext& context);

  const RunConfig& config_;
  const StageConfig& stage_;
  at::Device device_;
  ImageTokenizer model_{nullptr};
  TokenizerData train_;
  at::Tensor teacher_mean_;  // (C) over the training images, part of the state
  at::Tensor statistics_;    // of this step's vectors, for the codebooks
  std::unique_ptr<TokenizerEvaluation> evaluation_;
};

}  // namespace espalier
