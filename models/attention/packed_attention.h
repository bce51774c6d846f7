#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/attention/attention_mask.h"
#include "models/attention/block_attention.h"
#include "models/attention/rotary.h"

namespace espalier {

// Attention among the rows that the mask lets see each other. qkv (N, row_width): rows are [query
// heads | key heads | value heads]; the mask says a token's rotary position. Returns (queries,
// heads * head_dim): a row for each that asks. Groups that see only themselves and are short run in
// the project's own kernel on the CPU, in fp32 and bf16; anything else as block_attention().
at::Tensor packed_attention(const at::Tensor& qkv, const AttentionMask& mask,
                            const AttentionHeads& heads, const RotaryTable& table);
// The same from ATen operations on dense scores, differentiable in any precision.
at::Tensor composed_packed_attention(const at::Tensor& qkv, const AttentionMask& mask,
                                     const AttentionHeads& heads, const RotaryTable& table);

}  // namespace espalier
