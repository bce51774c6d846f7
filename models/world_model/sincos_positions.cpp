#include "models/world_model/sincos_positions.h"

#include <torch/torch.h>

#include <cmath>

namespace espalier {
namespace {

constexpr double kLongestPeriod = 10000.0;

// (count) -> (count, 2 * frequencies)
at::Tensor encode(const at::Tensor& place, int64_t frequencies) {
  const at::Tensor exponent =
      at::arange(frequencies, at::kDouble) / static_cast<double>(frequencies);
  const at::Tensor angle = at::outer(place, at::pow(kLongestPeriod, -exponent));
  return at::cat({angle.sin(), angle.cos()}, 1);
}

}  // namespace

at::Tensor sincos_positions(int64_t rows, int64_t columns, int64_t width) {
  TORCH_CHECK(rows > 0 && columns > 0 && width > 0 && width % 4 == 0,
              "sin-cos positions want a grid and a width divisible by 4, got ", rows, " x ",
              columns, " positions of width ", width);
  const at::Tensor row = at::arange(rows, at::kDouble).repeat_interleave(columns);
  const at::Tensor column = at::arange(columns, at::kDouble).repeat({rows});
  return at::cat({encode(column, width / 4), encode(row, width / 4)}, 1).to(at::kFloat);
}

at::Tensor sincos_positions(int64_t count, int64_t width) {
  const auto side = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(count))));
  return side * side == count ? sincos_positions(side, side, width)
                              : sincos_positions(1, count, width);
}

}  // namespace espalier
