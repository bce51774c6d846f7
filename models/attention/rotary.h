#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace espalier {

// Cosines and sines of rotary position embedding, (length, head_dim / 2) each, fp32. Undefined
// tensors: positions are not rotated.
struct RotaryTable {
  at::Tensor cosines;
  at::Tensor sines;
};
RotaryTable make_rotary_table(int64_t length, int64_t head_dim, double base);

// x (..., head_dim) by cosines and sines (..., head_dim / 2), broadcast over what they lack: the
// first half of a head turns against the second. Turns in fp32, whatever the type of x.
at::Tensor rotate(const at::Tensor& x, const RotaryTable& angles);

}  // namespace espalier
