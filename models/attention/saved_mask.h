#pragma once

#include <ATen/core/ivalue.h>

#include <utility>

#include "models/attention/attention_mask.h"

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

}  // namespace espalier
