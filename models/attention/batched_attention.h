#pragma once

#include <ATen/core/Tensor.h>

#include "models/attention/attention_mask.h"
#include "models/attention/kernel_attention.h"

namespace espalier {

// block_attention() of a mask that make_sequence_batch() takes, by one call of LibTorch's fused
// kernel for all sequences.
at::Tensor batched_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const AttentionMask& mask, const AttentionHeads& heads);

}  // namespace espalier
