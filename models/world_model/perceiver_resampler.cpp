#include "models/world_model/perceiver_resampler.h"

#include "models/attention/block_attention.h"
#include "models/layers/pre_norm_block.h"

namespace espalier {
namespace {

constexpr double kEpsilon = 1e-5;

// Rows of an image: its media, which are only seen, then its latents, which see all.
AttentionMask resampler_mask(int64_t media, int64_t latents) {
  const MaskGroup seen{.length = media, .rule = MaskRule::kNone, .asks = false};
  const MaskGroup asking{.first = media, .length = latents, .rule = MaskRule::kFull, .sees = {0}};
  return AttentionMask({seen, asking});
}

}  // namespace

PerceiverLayerImpl::PerceiverLayerImpl(const PerceiverResamplerOptions& options)
    : options_(options) {
  const int64_t width = options.width, inner = options.heads * options.head_dim;
  const auto linear = [](int64_t in, int64_t out) {
    return make_xavier_linear(in, out, /*with_bias=*/false);
  };
  media_norm = register_module("media_norm", make_layer_norm(width, kEpsilon));
  latent_norm = register_module("latent_norm", make_layer_norm(width, kEpsilon));
  query = register_module("query", linear(width, inner));
  key_value = register_module("key_value", linear(width, 2 * inner));
  attention_out = register_module("attention_out", linear(inner, width));
  mlp_norm = register_module("mlp_norm", make_layer_norm(width, kEpsilon));
  mlp_in = register_module("mlp_in", linear(width, options.mlp_ratio * width));
  mlp_out = register_module("mlp_out", linear(options.mlp_ratio * width, width));
}

at::Tensor PerceiverLayerImpl::forward(const at::Tensor& media, const at::Tensor& latents,
                                       const AttentionMask& mask) {
  const AttentionHeads heads{options_.heads, options_.heads, options_.head_dim};
  const at::Tensor normed = latent_norm->forward(latents);
  const at::Tensor sources = at::cat({media_norm->forward(media), normed}, 1);
  const at::Tensor q = query->forward(normed.flatten(0, 1));
  const auto kv = key_value->forward(sources.flatten(0, 1)).chunk(2, 1);
  const at::Tensor attended =
      latents.flatten(0, 1) + attention_out->forward(block_attention(q, kv[0], kv[1], mask, heads));
  const at::Tensor wide = mlp_in->forward(mlp_norm->forward(attended));
  return (attended + mlp_out->forward(at::gelu(wide))).view_as(latents);
}

PerceiverResamplerImpl::PerceiverResamplerImpl(const PerceiverResamplerOptions& options)
    : options_(options) {
  TORCH_CHECK(options.depth > 0 && options.heads > 0 && options.head_dim > 0 && options.latents > 0,
              "a resampler wants layers, heads and latents, got depth ", options.depth, ", ",
              options.heads, " heads of ", options.head_dim, ", ", options.latents, " latents");
  latents = register_parameter("latents", torch::randn({options.latents, options.width}));
  layers = register_module("layers", torch::nn::ModuleList());
  for (int64_t i = 0; i < options.depth; ++i) layers->push_back(PerceiverLayer(options));
  norm = register_module("norm", make_layer_norm(options.width, kEpsilon));
}

at::Tensor PerceiverResamplerImpl::forward(const at::Tensor& media) {
  TORCH_CHECK(media.dim() == 3 && media.size(2) == options_.width,
              "a resampler wants media (B, n, ", options_.width, "), got ", media.sizes());
  const at::Tensor in = as_residual(media);
  if (mask_.rows() != media.size(1) + options_.latents) {
    mask_ = resampler_mask(media.size(1), options_.latents);
  }
  const AttentionMask mask = mask_.repeated(media.size(0));
  at::Tensor x = latents.unsqueeze(0).expand({media.size(0), -1, -1});
  for (const auto& layer : *layers) x = layer->as<PerceiverLayerImpl>()->forward(in, x, mask);
  return norm->forward(x);
}

}  // namespace espalier
