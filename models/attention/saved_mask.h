#pragma once

#include <ATen/core/ivalue.h>

#include <utility>

#include <torch/csrc/autograd/custom_function.h>

#include "models/attention/attention_mask.h"
#include "models/attention/kernel_attention.h"

namespace espalier {

// A mask as autograd keeps it between forward and backward.
struct SavedMask : torch::CustomClassHolder {
  explicit SavedMask(AttentionMask kept) : mask(std::move(kept)) {}
  AttentionMask mask;
};

inline c10::IValue save(const AttentionMask& mask) {
  return c10::IValue::make_capsule(c10::make_intrusive<SavedMask>(mask));
}

inline const AttentionMask& restore(const c10::IValue& saved) {
  return static_cast<const SavedMask&>(*saved.toCapsule()).mask;
}

// And heads of this width.
inline void save(torch::autograd::AutogradContext* ctx, const AttentionMask& mask,
                 const AttentionHeads& heads) {
  ctx->saved_data["mask"] = save(mask);
  ctx->saved_data["heads"] = std::vector<int64_t>{heads.heads, heads.kv_heads, heads.head_dim};
}

inline AttentionHeads restore_heads(torch::autograd::AutogradContext* ctx) {
  const std::vector<int64_t> sizes = ctx->saved_data["heads"].toIntVector();
  return {sizes[0], sizes[1], sizes[2]};
}

}  // namespace espalier
