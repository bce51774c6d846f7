#pragma once

#include <type_traits>

#include <ATen/core/Tensor.h>

#include "models/kernels/simd.h"

// From tensors to the pointers that the kernels of this folder take.
namespace espalier::kernels {

inline bool has_kernel_type(const at::Tensor& t) {
  return t.is_cpu() && (t.scalar_type() == at::kFloat || t.scalar_type() == at::kBFloat16);
}

// Pointer to the elements of a contiguous tensor; null when undefined.
template <class T>
T* pointer(const at::Tensor& t) {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, simd::Bfloat16>);
  return t.defined() ? static_cast<T*>(t.data_ptr()) : nullptr;
}

// Calls body(float{}) or body(simd::Bfloat16{}).
template <class Body>
void with_kernel_type(at::ScalarType type, const Body& body) {
  if (type == at::kBFloat16) {
    body(simd::Bfloat16{});
  } else {
    body(float{});
  }
}

}  // namespace espalier::kernels
