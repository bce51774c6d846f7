#pragma once

#include <cstdint>

#include <torch/torch.h>

#include "models/attention/attention_mask.h"
#include "models/layers/linear.h"

namespace espalier {

struct PerceiverResamplerOptions {
  int64_t width = 768;
  int64_t depth = 3;
  int64_t heads = 8;
  int64_t head_dim = 64;  // heads * head_dim need not be the width
  int64_t latents = 16;   // L
  int64_t mlp_ratio = 4;
};

// One layer: latents look at the media and at themselves, then a perceptron. No biases.
class PerceiverLayerImpl : public torch::nn::Module {
 public:
  explicit PerceiverLayerImpl(const PerceiverResamplerOptions& options);
  // media (B, n, width) and latents (B, L, width), fp32 -> (B, L, width) fp32. The mask is of B *
  // (n
  // + L) rows, of which the latents ask.
  at::Tensor forward(const at::Tensor& media, const at::Tensor& latents, const AttentionMask& mask);

  torch::nn::LayerNorm media_norm{nullptr}, latent_norm{nullptr}, mlp_norm{nullptr};
  Linear query{nullptr}, key_value{nullptr}, attention_out{nullptr};
  Linear mlp_in{nullptr}, mlp_out{nullptr};

 private:
  PerceiverResamplerOptions options_;
};
TORCH_MODULE(PerceiverLayer);

// Any number of features of an image to L tokens: learned latents attend to [media, latents] in
// every layer (Flamingo, Alayrac et al. 2022, as in flamingo-pytorch and DreamVLA's
// perceiver_resampler.py). Media carry their positions already; there are no time embeddings.
class PerceiverResamplerImpl : public torch::nn::Module {
 public:
  explicit PerceiverResamplerImpl(const PerceiverResamplerOptions& options);
  // (B, n, width) fp32 -> (B, L, width) fp32
  at::Tensor forward(const at::Tensor& media);

  at::Tensor latents;  // (L, width)
  torch::nn::ModuleList layers{nullptr};
  torch::nn::LayerNorm norm{nullptr};

 private:
  PerceiverResamplerOptions options_;
  AttentionMask mask_;  // of an image, the latest
};
TORCH_MODULE(PerceiverResampler);

}  // namespace espalier
