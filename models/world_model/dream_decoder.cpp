#include "models/world_model/dream_decoder.h"

#include "models/world_model/sincos_positions.h"

namespace espalier {
namespace {

constexpr double kEpsilon = 1e-5;
constexpr double kTokenDeviation = 0.02;

at::Tensor positions_of(const DreamDecoderOptions& options) {
  if (!options.positions) return at::zeros({options.queries + options.patches, options.width});
  return at::cat({sincos_positions(options.queries, options.width),
                  sincos_positions(options.patches, options.width)});
}

}  // namespace

DreamDecoderImpl::DreamDecoderImpl(const DreamDecoderOptions& options) : options_(options) {
  TORCH_CHECK(options.queries > 0 && options.patches > 0 && options.patch_width > 0,
              "a dream decoder wants queries, patches and a patch width, got ", options.queries,
              ", ", options.patches, ", ", options.patch_width);
  from_query =
      register_module("from_query", make_xavier_linear(options.query_width, options.width));
  mask_token = register_parameter("mask_token", torch::randn({options.width}) * kTokenDeviation);
  position = register_buffer("position", positions_of(options));
  mask_ = AttentionMask::from_lengths({options.queries + options.patches}, MaskRule::kFull);
  blocks = register_module(
      "blocks",
      make_pre_norm_blocks(options.blocks, PreNormBlockOptions{.width = options.width,
                                                               .heads = options.heads,
                                                               .mlp_width = options.mlp_width,
                                                               .norm_epsilon = kEpsilon}));
  norm = register_module("norm", make_layer_norm(options.width, kEpsilon));
  out = register_module("out", make_xavier_linear(options.width, options.patch_width));
}

at::Tensor DreamDecoderImpl::forward(const at::Tensor& queries) {
  TORCH_CHECK(queries.dim() == 3 && queries.size(1) == options_.queries &&
                  queries.size(2) == options_.query_width,
              "this dream decoder wants queries (B, ", options_.queries, ", ", options_.query_width,
              "), got ", queries.sizes());
  const int64_t batch = queries.size(0), patches = options_.patches;
  const int64_t length = options_.queries + patches;
  const at::Tensor embedded = as_residual(from_query->forward(queries.flatten(0, 1)))
                                  .view({batch, options_.queries, options_.width});
  const at::Tensor masked = mask_token.expand({batch, patches, -1});
  at::Tensor rows = (at::cat({embedded, masked}, 1) + position).flatten(0, 1);
  rows = run_pre_norm_blocks(blocks, rows, mask_.repeated(batch));
  const at::Tensor last =
      rows.view({batch, length, -1}).slice(1, options_.queries).reshape({batch * patches, -1});
  const at::Tensor drawn =
      as_residual(out->forward(norm->forward(last))).view({batch, patches, -1});
  switch (options_.output) {
    case DreamOutput::kRelu:
      return at::relu(drawn);
    case DreamOutput::kSoftplus:
      return at::softplus(drawn);
    case DreamOutput::kLinear:
      break;
  }
  return drawn;
}

}  // namespace espalier
