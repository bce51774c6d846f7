#pragma once

#include <cstdint>

#include <torch/torch.h>

#include "models/layers/pre_norm_block.h"

// What DreamVLA's published code does otherwise than its paper says or its readers expect, and what
// is the default here:
//   output of the diffusion transformer: meant to start at zero, then given a Xavier start.
//     DiffusionTransformerOptions::zero_output; here it starts at zero
//   SAM decoder: no positions and a mask token of zero, so that all patches come out alike.
//     DreamDecoderOptions::positions; here every decoder has both
//   depth: a ReLU, then a logarithm of it, over the whole batch as one row. DreamOutput; here
//     linear unless asked for, and silog() takes the rows it is given
//   dynamic region: mean over all elements, masked or not. MaskedMean; the caller chooses
//   trajectory: scaled by 0.1 twice. trajectory_error's published_scale; here once, by the weight
//   semantics: cosine, where the paper has InfoNCE. cosine_distance, info_nce; both are here
//   shared queries: quarters of the width, however many kinds. QueryTokensOptions::share; off, and
//     if on as many parts as groups
//   flow matching: times in [0, 1) unscaled, never guided. time_scale,
//   ActionSamplingOptions::guidance left out: dropout 0.1 of the trunk, embeddings of an action
//   history that nothing reads
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
