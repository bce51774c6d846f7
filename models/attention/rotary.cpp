#include "models/attention/rotary.h"

#include <torch/torch.h>

namespace espalier {

RotaryTable make_rotary_table(int64_t length, int64_t head_dim, double base) {
  const at::Tensor steps = at::arange(0, head_dim, 2, at::kDouble) / static_cast<double>(head_dim);
  const at::Tensor frequencies = at::pow(base, -steps);
  const at::Tensor angles = at::outer(at::arange(length, at::kDouble), frequencies);
  return {angles.cos().to(at::kFloat).contiguous(), angles.sin().to(at::kFloat).contiguous()};
}

at::Tensor rotate(const at::Tensor& x, const RotaryTable& angles) {
  // Angles in bfloat16 would be off by up to a hundredth of a turn at long distances.
  const bool is_double = x.scalar_type() == at::kDouble;
  const at::Tensor c = angles.cosines.to(x.device(), is_double ? at::kDouble : at::kFloat);
  const at::Tensor s = angles.sines.to(x.device(), is_double ? at::kDouble : at::kFloat);
  const auto halves = x.chunk(2, -1);
  return at::cat({halves[0] * c - halves[1] * s, halves[1] * c + halves[0] * s}, -1)
      .to(x.scalar_type());
}

}  // namespace espalier
