#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/attention/attention_mask.h"
#include "models/attention/rotary.h"

namespace espalier {

struct AttentionHeads {
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads; each serves heads / kv_heads query heads
  int64_t head_dim = 0;

  int64_t row_width() const { return (heads + 2 * kv_heads) * head_dim; }
};

// Attention among the rows that the mask lets see each other. qkv (N, row_width): rows are [query
// heads | key heads | value heads]; a token's place in its group is its rotary position. Returns
// (N, heads * head_dim). CPU in fp32 and bf16 runs one kernel; anything else goes through
// scaled_dot_product_attention on padded sequences (the composed form).
at::Tensor packed_attention(const at::Tensor& qkv, const AttentionMask& mask,
                            const AttentionHeads& heads, const RotaryTable& table);
at::Tensor composed_packed_attention(const at::Tensor& qkv, const AttentionMask& mask,
                                     const AttentionHeads& heads, const RotaryTable& table);

}  // namespace espalier
