#include "models/world_model/action_diffusion.h"

#include <vector>

namespace espalier {

ActionDiffusionImpl::ActionDiffusionImpl(const ActionDiffusionOptions& options)
    : options_(options), schedule_(options.diffusion_steps) {
  transformer = register_module("transformer", DiffusionTransformer(options.transformer));
}

at::Tensor ActionDiffusionImpl::loss(const at::Tensor& actions, const at::Tensor& condition,
                                     const DiffusionDraws& draws) {
  const int64_t batch = actions.size(0), rows = draws.noise.size(0);
  TORCH_CHECK(batch > 0 && rows % batch == 0 && condition.size(0) == batch,
              "action diffusion wants as many conditions as actions and draws for each, got ",
              batch, " actions, ", condition.size(0), " conditions and ", rows, " draws");
  const at::Tensor clean = as_residual(actions).repeat({rows / batch, 1, 1});
  const bool is_flow = options_.target == DiffusionTarget::kFlow;
  const at::Tensor noisy = is_flow ? flow_point(clean, draws.noise, draws.time)
                                   : schedule_.noised(clean, draws.noise, draws.time);
  const at::Tensor target = is_flow ? clean - draws.noise : draws.noise;
  const at::Tensor error =
      (transformer->forward(noisy, draws.time, condition, draws.dropped) - target).square();
  if (!draws.counted.defined()) return error.sum();
  return error.mul(draws.counted.repeat({rows / batch, 1}).unsqueeze(2)).sum();
}

at::Tensor ActionDiffusionImpl::predict(const at::Tensor& x, double time,
                                        const at::Tensor& condition, double guidance) {
  const int64_t batch = x.size(0);
  const auto times = [&](int64_t rows) {
    return at::full({rows}, time, x.options().dtype(at::kFloat));
  };
  if (guidance == 1.0) return transformer->forward(x, times(batch), condition, {});
  const at::Tensor dropped =
      at::arange(2 * batch, x.options().dtype(at::kLong)).ge(batch);  // the second half
  const auto halves =
      transformer->forward(x.repeat({2, 1, 1}), times(2 * batch), condition, dropped).chunk(2);
  return halves[1] + (halves[0] - halves[1]) * guidance;
}

at::Tensor ActionDiffusionImpl::sample(const at::Tensor& condition, const at::Tensor& noise,
                                       const ActionSamplingOptions& options) {
  const torch::NoGradGuard no_gradient;
  TORCH_CHECK(options.steps > 0, "sampling wants at least one step, got ", options.steps);
  at::Tensor x = as_residual(noise);
  if (options_.target == DiffusionTarget::kFlow) {
    const double delta = 1.0 / static_cast<double>(options.steps);
    for (int64_t i = 0; i < options.steps; ++i) {
      x = x + predict(x, static_cast<double>(i) * delta, condition, options.guidance) * delta;
    }
    return x;
  }
  const std::vector<int64_t> visited = schedule_.ddim_timesteps(options.steps);
  for (size_t i = visited.size(); i-- > 0;) {
    const int64_t t = visited[i], previous = i == 0 ? -1 : visited[i - 1];
    const at::Tensor epsilon = predict(x, static_cast<double>(t), condition, options.guidance);
    x = schedule_.ddim_step(x, epsilon, t, previous);
  }
  return x;
}

}  // namespace espalier
