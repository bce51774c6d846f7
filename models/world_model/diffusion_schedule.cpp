#include "models/world_model/diffusion_schedule.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace espalier {
namespace {

constexpr double kOffset = 0.008;  // keeps the first betas from being too small
constexpr double kLargestBeta = 0.999;

// The share that should be left at time 0 .. 1.
double cosine_share(double time) {
  const double c = std::cos((time + kOffset) / (1.0 + kOffset) * std::numbers::pi / 2.0);
  return c * c;
}

// (R) -> (R, 1, ...) in x's type, to multiply x (R, ...)
at::Tensor per_row(const at::Tensor& values, const at::Tensor& x) {
  std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
  shape[0] = values.size(0);
  return values.to(x.scalar_type()).view(shape);
}

void check_rows(const char* what, const at::Tensor& x, const at::Tensor& noise,
                const at::Tensor& t) {
  TORCH_CHECK(x.sizes() == noise.sizes() && t.dim() == 1 && x.dim() > 0 && t.size(0) == x.size(0),
              what, " wants x and noise alike and a time for each row, got ", x.sizes(), ", ",
              noise.sizes(), " and ", t.sizes());
}

}  // namespace

DiffusionSchedule::DiffusionSchedule(int64_t steps) {
  TORCH_CHECK(steps > 0, "a diffusion wants at least one step, got ", steps);
  const auto count = static_cast<double>(steps);
  double left = 1.0;
  for (int64_t t = 0; t < steps; ++t) {
    const auto time = static_cast<double>(t);
    const double ratio = cosine_share((time + 1) / count) / cosine_share(time / count);
    betas_.push_back(std::min(1.0 - ratio, kLargestBeta));
    left *= 1.0 - betas_.back();
    alpha_bar_.push_back(left);
  }
  alpha_bar_table_ = torch::tensor(alpha_bar_, at::kDouble);
}

double DiffusionSchedule::alpha_bar(int64_t t) const {
  TORCH_CHECK(t >= -1 && t < steps(), "diffusion step ", t, " is not in -1 .. ", steps() - 1);
  return t < 0 ? 1.0 : alpha_bar_[static_cast<size_t>(t)];
}

at::Tensor DiffusionSchedule::noised(const at::Tensor& x, const at::Tensor& noise,
                                     const at::Tensor& t) const {
  check_rows("noised", x, noise, t);
  alpha_bar_table_ = alpha_bar_table_.to(t.device());
  const at::Tensor left = alpha_bar_table_.index_select(0, t);
  return per_row(left.sqrt(), x) * x + per_row((1 - left).sqrt(), x) * noise;
}

std::vector<int64_t> DiffusionSchedule::ddim_timesteps(int64_t count) const {
  if (count == 1) return {steps() / 2};
  for (int64_t stride = 1; stride < steps() && count > 1; ++stride) {
    if ((steps() + stride - 1) / stride != count) continue;
    std::vector<int64_t> visited;
    for (int64_t t = 0; t < steps(); t += stride) visited.push_back(t);
    return visited;
  }
  TORCH_CHECK(false, "no stride visits ", count, " of ", steps(),
              " diffusion steps; choose a divisor of ", steps());
}

at::Tensor DiffusionSchedule::ddim_step(const at::Tensor& x_t, const at::Tensor& epsilon, int64_t t,
                                        int64_t previous) const {
  TORCH_CHECK(previous < t, "ddim_step goes back in time, got from ", t, " to ", previous);
  const double now = alpha_bar(t), then = alpha_bar(previous);
  // x_t / sqrt(abar_t) - sqrt(1 / abar_t - 1) epsilon is the clean signal.
  return x_t * std::sqrt(then / now) +
         epsilon * (std::sqrt(1.0 - then) - std::sqrt(then * (1.0 - now) / now));
}

at::Tensor flow_point(const at::Tensor& x, const at::Tensor& noise, const at::Tensor& t) {
  check_rows("flow_point", x, noise, t);
  const at::Tensor time = per_row(t, x);
  return time * x + (1 - time) * noise;
}

}  // namespace espalier
