#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/attention/attention_mask.h"

namespace espalier {

struct AttentionHeads {
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads; each serves heads / kv_heads query heads
  int64_t head_dim = 0;

  int64_t row_width() const { return (heads + 2 * kv_heads) * head_dim; }
};

// Attention under a block mask. q (queries, heads * head_dim): rows of groups that ask, in order;
// k, v (rows, kv_heads * head_dim). Returns the shape of q. Computes live blocks only, as unmasked
// or causal calls of a fused kernel whose results are merged exactly by their logsumexps: cost is
// density x that of full attention, memory O(T).
//
// Tensors that no fused kernel takes (double precision, odd head widths on a GPU) go through
// composed_block_attention(): dense scores, O(T^2) memory.
at::Tensor block_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const AttentionMask& mask, const AttentionHeads& heads);
at::Tensor composed_block_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                    const AttentionMask& mask, const AttentionHeads& heads);

}  // namespace espalier
