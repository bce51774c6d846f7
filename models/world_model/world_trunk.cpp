#include "models/world_model/world_trunk.h"

namespace espalier {
namespace {

constexpr double kPositionDeviation = 0.02;

}  // namespace

WorldTrunkImpl::WorldTrunkImpl(const WorldTrunkOptions& options) : options_(options) {
  TORCH_CHECK(options.layers >= 0 && options.timesteps > 0, "a trunk wants timesteps, got ",
              options.timesteps, " and ", options.layers, " layers");
  position = register_parameter(
      "position", torch::randn({options.timesteps, options.width}) * kPositionDeviation);
  if (options.embedding_norm) {
    embedding_norm =
        register_module("embedding_norm", make_layer_norm(options.width, options.norm_epsilon));
  }
  blocks = register_module(
      "blocks",
      make_pre_norm_blocks(options.layers, PreNormBlockOptions{.width = options.width,
                                                               .heads = options.heads,
                                                               .mlp_width = options.mlp_width,
                                                               .norm_epsilon = options.norm_epsilon,
                                                               .gelu = Gelu::kTanh}));
  norm = register_module("norm", make_layer_norm(options.width, options.norm_epsilon));
}

at::Tensor WorldTrunkImpl::forward(const at::Tensor& rows, const at::Tensor& timestep,
                                   const AttentionMask& mask) {
  TORCH_CHECK(rows.dim() == 2 && rows.size(1) == options_.width && rows.size(0) == mask.rows() &&
                  timestep.sizes() == at::IntArrayRef{rows.size(0)},
              "a trunk wants rows (N, ", options_.width, "), N timesteps and a mask of N, got ",
              rows.sizes(), ", ", timestep.sizes(), " and ", mask.rows());
  at::Tensor x = as_residual(rows) + position.index_select(0, timestep);
  if (options_.embedding_norm) x = embedding_norm->forward(x);
  x = run_pre_norm_blocks(blocks, x, mask);
  return norm->forward(x);
}

}  // namespace espalier
