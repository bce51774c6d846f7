#pragma once

#include <cstdint>
#include <vector>

#include "models/attention/attention_mask.h"
#include "models/kernels/block_attention.h"

namespace espalier {

// A mask as the project's own kernel takes it (models/kernels/block_attention.h): which groups have
// to do with each other, in which order their keys lie, and which ranges each block of queries
// sees. O(T) memory, made once per mask.
struct KernelPlan {
  std::vector<kernels::AttentionComponent> components;
  std::vector<int64_t> positions;  // rotary position of each row
};

KernelPlan make_kernel_plan(const std::vector<MaskGroup>& groups);

}  // namespace espalier
