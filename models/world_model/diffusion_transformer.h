#pragma once

#include <cstdint>

#include <torch/torch.h>

#include "models/layers/pre_norm_block.h"

namespace espalier {

struct DiffusionTransformerOptions {
  int64_t condition_width = 256;
  int64_t action_width = 7;
  int64_t chunk = 3;  // T: actions of a sample, and tokens of its condition
  int64_t width = 768;
  int64_t heads = 12;
  int64_t layers = 12;
  int64_t mlp_width = 3072;
  int64_t time_frequencies = 256;  // channels of the sinusoid, even
  // Multiplies times before the sinusoid, whose shortest period is 2 pi. 1 is published for both
  // targets; flow times lie in [0, 1], where it uses little of the sinusoid: 1000 spreads them.
  double time_scale = 1.0;
  // DiT starts by predicting zero. The published model means to, but then gives every linear a
  // Xavier start (dreamvla_model.py initialize_weights): false is what its training starts from.
  bool zero_output = true;
};

// Predicts the noise, or the velocity, in a chunk of actions (DreamVLA, models/action_model/
// models.py: DiT with its condition as tokens). The sequence [c ; x], c = time + Linear(condition),
// x = Linear(noisy actions), sees itself whole. The published history embedder, which nothing uses,
// is left out.
class DiffusionTransformerImpl : public torch::nn::Module {
 public:
  explicit DiffusionTransformerImpl(const DiffusionTransformerOptions& options);

  // actions (R, T, action_width) fp32; time (R) any number type; condition (B, T, condition_width)
  // where B divides R: row r has condition r mod B, so that several draws of noise pay for it once;
  // dropped (R) bool, undefined for none: those rows have the learned vector for a condition.
  // Returns (R, T, action_width) fp32.
  at::Tensor forward(const at::Tensor& actions, const at::Tensor& time, const at::Tensor& condition,
                     const at::Tensor& dropped);

  const DiffusionTransformerOptions& options() const { return options_; }

  Linear action_in{nullptr}, condition_in{nullptr}, time_in{nullptr}, time_out{nullptr};
  at::Tensor no_condition;  // (1, condition_width)
  at::Tensor position;      // (2 T, width)
  torch::nn::ModuleList blocks{nullptr};
  torch::nn::LayerNorm norm{nullptr};
  Linear out{nullptr};

 private:
  at::Tensor embed_time(const at::Tensor& time);
  at::Tensor embed_condition(const at::Tensor& condition, const at::Tensor& dropped,
                             int64_t repeats);

  DiffusionTransformerOptions options_;
  AttentionMask mask_;  // of one sample
};
TORCH_MODULE(DiffusionTransformer);

}  // namespace espalier
