#include "models/world_model/diffusion_transformer.h"

#include <cmath>

namespace espalier {
namespace {

constexpr double kEpsilon = 1e-6;
constexpr double kEmbeddingDeviation = 0.02;
constexpr double kLongestPeriod = 10000.0;  // over 2 pi

Linear make_small_linear(int64_t in_features, int64_t out_features) {
  Linear linear(in_features, out_features, /*with_bias=*/true);
  torch::nn::init::normal_(linear->weight, 0.0, kEmbeddingDeviation);
  return linear;
}

}  // namespace

DiffusionTransformerImpl::DiffusionTransformerImpl(const DiffusionTransformerOptions& options)
    : options_(options) {
  const int64_t width = options.width;
  TORCH_CHECK(
      options.chunk > 0 && options.time_frequencies > 0 && options.time_frequencies % 2 == 0,
      "a diffusion transformer wants actions and an even number of time frequencies, got ",
      "chunk ", options.chunk, ", time_frequencies ", options.time_frequencies);
  action_in = register_module("action_in", make_small_linear(options.action_width, width));
  condition_in = register_module("condition_in", make_small_linear(options.condition_width, width));
  time_in = register_module("time_in", make_small_linear(options.time_frequencies, width));
  time_out = register_module("time_out", make_small_linear(width, width));
  no_condition = register_parameter(
      "no_condition", torch::randn({1, options.condition_width}) * kEmbeddingDeviation);
  position = register_parameter(
      "position", torch::randn({2 * options.chunk, width}) / std::sqrt(static_cast<double>(width)));
  mask_ = AttentionMask::from_lengths({2 * options.chunk}, MaskRule::kFull);
  blocks = register_module(
      "blocks",
      make_pre_norm_blocks(options.layers, PreNormBlockOptions{.width = width,
                                                               .heads = options.heads,
                                                               .mlp_width = options.mlp_width,
                                                               .affine_norm = false,
                                                               .norm_epsilon = kEpsilon,
                                                               .gelu = Gelu::kTanh}));
  norm = register_module("norm", make_layer_norm(width, kEpsilon, /*affine=*/false));
  out = register_module("out", make_xavier_linear(width, options.action_width));
  if (options.zero_output) torch::nn::init::zeros_(out->weight);
}

// (R) -> (R, width): [cos, sin] of falling frequencies, then a perceptron.
at::Tensor DiffusionTransformerImpl::embed_time(const at::Tensor& time) {
  const int64_t half = options_.time_frequencies / 2;
  const at::Tensor exponent =
      at::arange(half, time.options().dtype(at::kFloat)) / static_cast<double>(half);
  const at::Tensor frequency = at::exp(exponent * -std::log(kLongestPeriod));
  const at::Tensor angle = at::outer(time.to(at::kFloat) * options_.time_scale, frequency);
  const at::Tensor waves = at::cat({angle.cos(), angle.sin()}, 1).to(position.scalar_type());
  return as_residual(time_out->forward(at::silu(time_in->forward(waves))));
}

// (B, T, condition_width) -> (repeats * B, T, width)
at::Tensor DiffusionTransformerImpl::embed_condition(const at::Tensor& condition,
                                                     const at::Tensor& dropped, int64_t repeats) {
  const int64_t rows = condition.size(0) * condition.size(1);
  const at::Tensor embedded = as_residual(
      condition_in->forward(at::cat({as_residual(condition).flatten(0, 1), no_condition})));
  const at::Tensor given = embedded.slice(0, 0, rows)
                               .view({condition.size(0), condition.size(1), options_.width})
                               .repeat({repeats, 1, 1});
  if (!dropped.defined()) return given;
  return at::where(dropped.to(at::kBool).view({-1, 1, 1}), embedded.slice(0, rows), given);
}

at::Tensor DiffusionTransformerImpl::forward(const at::Tensor& actions, const at::Tensor& time,
                                             const at::Tensor& condition,
                                             const at::Tensor& dropped) {
  const int64_t rows = actions.size(0), chunk = options_.chunk;
  TORCH_CHECK(actions.dim() == 3 && actions.size(1) == chunk &&
                  actions.size(2) == options_.action_width && time.sizes() == at::IntArrayRef{rows},
              "a diffusion transformer wants actions (R, ", chunk, ", ", options_.action_width,
              ") and R times, got ", actions.sizes(), " and ", time.sizes());
  TORCH_CHECK(condition.dim() == 3 && condition.size(0) > 0 && rows % condition.size(0) == 0 &&
                  condition.size(1) == chunk && condition.size(2) == options_.condition_width,
              "a diffusion transformer wants conditions (B, ", chunk, ", ",
              options_.condition_width, ") with B a divisor of ", rows, ", got ",
              condition.sizes());
  const at::Tensor c =
      embed_condition(condition, dropped, rows / condition.size(0)) + embed_time(time).unsqueeze(1);
  const at::Tensor x =
      as_residual(action_in->forward(actions.flatten(0, 1))).view({rows, chunk, -1});
  at::Tensor stream = (at::cat({c, x}, 1) + position).flatten(0, 1);
  stream = run_pre_norm_blocks(blocks, stream, mask_.repeated(rows));
  const at::Tensor last =
      stream.view({rows, 2 * chunk, -1}).slice(1, chunk).reshape({rows * chunk, -1});
  return as_residual(out->forward(norm->forward(last))).view_as(actions);
}

}  // namespace espalier
