#pragma once

#include <cstdint>

#include <torch/torch.h>

#include "models/attention/key_value_cache.h"
#include "models/attention/packed_attention.h"
#include "models/attention/rotary.h"
#include "models/layers/linear.h"

namespace espalier {

struct TransformerBlockOptions {
  int64_t width = 256;
  AttentionHeads heads;
  int64_t feed_forward_width = 704;
  bool query_key_value_bias = false;
  bool attention_out_bias = false;
  bool feed_forward_bias = false;
  double norm_epsilon = 1e-6;

  bool operator==(const TransformerBlockOptions&) const = default;
};

// The residual stream between layers: `x` in fp32 and the last layer's output `delta`, which the
// next normalisation adds, so that sum and norm are one pass. delta may be undefined.
struct Residual {
  at::Tensor x;
  at::Tensor delta;
};

// RMSNorm as a learned scale per channel; adds the pending delta first.
class RmsNormImpl : public torch::nn::Module {
 public:
  RmsNormImpl(int64_t width, double epsilon);
  // Returns the normalised rows; `residual` becomes {x + delta, undefined}.
  at::Tensor forward(Residual& residual);

  at::Tensor weight;

 private:
  double epsilon_;
};
TORCH_MODULE(RmsNorm);

// Pre-norm layer as in Qwen2 and Llama: attention with rotary positions and grouped key-value
// heads, then a SwiGLU feed-forward. Works on packed rows; who sees whom is the mask's.
class TransformerBlockImpl : public torch::nn::Module {
 public:
  explicit TransformerBlockImpl(const TransformerBlockOptions& options);

  Residual forward(Residual residual, const AttentionMask& mask, const RotaryTable& table);

  // One more stretch of tokens of `batch` sequences, rows sequence after sequence, with what the
  // cache holds as their past; the cache grows. No gradients.
  Residual step(Residual residual, const RotaryTable& table, LayerCache& cache,
                const CacheView& view);

  RmsNorm attention_norm{nullptr}, feed_forward_norm{nullptr};
  Linear query_key_value{nullptr}, attention_out{nullptr}, gate_up{nullptr}, down{nullptr};

 private:
  at::Tensor feed_forward(Residual& residual);

  TransformerBlockOptions options_;
};
TORCH_MODULE(TransformerBlock);

}  // namespace espalier
