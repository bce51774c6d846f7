#pragma once

#include <cstdint>

#include <torch/torch.h>

#include "models/attention/packed_attention.h"
#include "models/layers/linear.h"

namespace espalier {

enum class Gelu {
  kExact,  // x Phi(x): vision transformers
  kTanh,   // its tanh approximation: GPT-2 ("gelu_new"), diffusion transformers
};

struct PreNormBlockOptions {
  int64_t width = 256;
  int64_t heads = 4;         // divides width
  int64_t mlp_width = 1024;  // usually 4 * width
  bool affine_norm = true;   // LayerNorm with a learned scale and offset
  double norm_epsilon = 1e-5;
  Gelu gelu = Gelu::kExact;
};

// Pre-norm transformer layer with LayerNorm, biased attention without positions, and a GELU
// perceptron: a layer of GPT-2 (kTanh), of a vision transformer (kExact), and of a diffusion
// transformer that takes its condition as a token (no affine norm, kTanh; Peebles and Xie, 2022,
// "in-context conditioning"). No dropout. Starts Xavier-uniform with zero biases, as ViT does.
class PreNormBlockImpl : public torch::nn::Module {
 public:
  // Throws c10::Error when heads do not divide the width.
  explicit PreNormBlockImpl(const PreNormBlockOptions& options);

  // rows (N, width) in fp32, the residual stream, which stays fp32 under autocast. Who sees whom is
  // the mask's.
  at::Tensor forward(const at::Tensor& rows, const AttentionMask& mask);

  torch::nn::LayerNorm attention_norm{nullptr}, mlp_norm{nullptr};
  Linear query_key_value{nullptr}, attention_out{nullptr}, mlp_in{nullptr}, mlp_out{nullptr};

 private:
  PreNormBlockOptions options_;
};
TORCH_MODULE(PreNormBlock);

// `count` of them, and one after another.
torch::nn::ModuleList make_pre_norm_blocks(int64_t count, const PreNormBlockOptions& options);
at::Tensor run_pre_norm_blocks(const torch::nn::ModuleList& blocks, at::Tensor rows,
                               const AttentionMask& mask);

torch::nn::LayerNorm make_layer_norm(int64_t width, double epsilon, bool affine = true);

// A Linear with bias that starts Xavier-uniform, its bias zero.
Linear make_xavier_linear(int64_t in_features, int64_t out_features, bool with_bias = true);

// x in the type of the residual stream: fp32, or double for a model in double.
at::Tensor as_residual(const at::Tensor& x);

}  // namespace espalier
