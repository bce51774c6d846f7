#pragma once

#include <cstdint>

#include <torch/torch.h>

#include "models/layers/pre_norm_block.h"

namespace espalier {

struct WorldTrunkOptions {
  int64_t layers = 24;
  int64_t width = 1024;
  int64_t heads = 16;
  int64_t mlp_width = 4096;
  int64_t timesteps = 10;      // K: of an episode window
  bool embedding_norm = true;  // LayerNorm on what comes in, position included
  double norm_epsilon = 1e-5;
};

// The trunk of DreamVLA (models/gpt2.py as dreamvla_model.py uses it): GPT-2 layers whose mask
// replaces the causal one, with one learned position per timestep, shared by all tokens of it.
// Published, and left out: dropout 0.1. Published layers start from GPT-2's normal (0.02), for the
// Xavier start of the rest misses their Conv1D; ours start Xavier.
class WorldTrunkImpl : public torch::nn::Module {
 public:
  explicit WorldTrunkImpl(const WorldTrunkOptions& options);

  // rows (N, width), embedded, in the mask's order; timestep (N) int64 in 0 .. K-1. Returns (N,
  // width) fp32 behind the last LayerNorm.
  at::Tensor forward(const at::Tensor& rows, const at::Tensor& timestep, const AttentionMask& mask);

  const WorldTrunkOptions& options() const { return options_; }

  at::Tensor position;  // (K, width)
  torch::nn::LayerNorm embedding_norm{nullptr}, norm{nullptr};
  torch::nn::ModuleList blocks{nullptr};

 private:
  WorldTrunkOptions options_;
};
TORCH_MODULE(WorldTrunk);

}  // namespace espalier
