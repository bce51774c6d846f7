#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/attention/attention_mask.h"
#include "models/attention/kernel_attention.h"

namespace espalier {

// Attention under a block mask. q (queries, heads * head_dim): rows of groups that ask, in order;
// k, v (rows, kv_heads * head_dim). Returns the shape of q. Computes what is visible and no more:
// cost is density x that of full attention, memory O(T).
//
// On the CPU in fp32 and bf16 this is the project's own kernel (kernel_attention.h). Elsewhere it
// is batched_attention() for sequences that have nothing to do with each other, or else
// pieces_attention(); tensors that no fused kernel takes (double precision, odd head widths on a
// GPU) go through composed_block_attention(): dense scores, O(T^2) memory.
at::Tensor block_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const AttentionMask& mask, const AttentionHeads& heads);
// Unmasked and causal calls of LibTorch's fused kernels (attention_plan.h), merged exactly by their
// logsumexps.
at::Tensor pieces_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const AttentionMask& mask, const AttentionHeads& heads);
at::Tensor composed_block_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                    const AttentionMask& mask, const AttentionHeads& heads);

}  // namespace espalier
