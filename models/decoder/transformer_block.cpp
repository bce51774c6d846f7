#include "models/decoder/transformer_block.h"

#include <cmath>

#include "models/layers/fused_ops.h"

namespace espalier {

RmsNormImpl::RmsNormImpl(int64_t width, double epsilon) : epsilon_(epsilon) {
  weight = register_parameter("weight", torch::ones({width}));
}

at::Tensor RmsNormImpl::forward(Residual& residual) {
  auto [sum, normalised] = add_rms_norm(residual.x, residual.delta, weight, epsilon_);
  residual = {sum, {}};
  return normalised;
}

TransformerBlockImpl::TransformerBlockImpl(const TransformerBlockOptions& options)
    : options_(options) {
  const int64_t width = options.width;
  const AttentionHeads& heads = options.heads;
  TORCH_CHECK(heads.heads > 0 && heads.kv_heads > 0 && heads.heads % heads.kv_heads == 0 &&
                  heads.head_dim % 2 == 0,
              "attention wants heads divisible by kv_heads and an even head width, got ",
              heads.heads, " heads, ", heads.kv_heads, " kv_heads of width ", heads.head_dim);
  const int64_t attended = heads.heads * heads.head_dim;
  attention_norm = register_module("attention_norm", RmsNorm(width, options.norm_epsilon));
  query_key_value = register_module("query_key_value",
                                    Linear(width, heads.row_width(), options.query_key_value_bias));
  attention_out = register_module("attention_out", Linear(attended, width));
  feed_forward_norm = register_module("feed_forward_norm", RmsNorm(width, options.norm_epsilon));
  gate_up = register_module("gate_up", Linear(width, 2 * options.feed_forward_width));
  down = register_module("down", Linear(options.feed_forward_width, width));
  // Layers add to one stream: a smaller start keeps its size in bounds, whatever the depth.
  const torch::NoGradGuard no_grad;
  attention_out->weight.mul_(0.5);
  down->weight.mul_(0.5);
}

at::Tensor TransformerBlockImpl::feed_forward(Residual& residual) {
  return down->forward(swiglu(gate_up->forward(feed_forward_norm->forward(residual))));
}

Residual TransformerBlockImpl::forward(Residual residual, const AttentionMask& mask,
                                       const RotaryTable& table) {
  const at::Tensor qkv = query_key_value->forward(attention_norm->forward(residual));
  residual.delta = attention_out->forward(packed_attention(qkv, mask, options_.heads, table));
  residual.delta = feed_forward(residual);
  return residual;
}

Residual TransformerBlockImpl::step(Residual residual, const RotaryTable& table, LayerCache& cache,
                                    const CacheView& view) {
  const AttentionHeads& heads = options_.heads;
  const at::Tensor qkv = query_key_value->forward(attention_norm->forward(residual));
  // (batch, all heads, count, head_dim)
  const at::Tensor split =
      qkv.view({view.batch, view.count, heads.heads + 2 * heads.kv_heads, heads.head_dim})
          .transpose(1, 2);
  const int64_t rotated = heads.heads + heads.kv_heads;
  const at::Tensor turned = table.cosines.defined()
                                ? rotate(split.narrow(1, 0, rotated), table, view.first)
                                : split.narrow(1, 0, rotated);
  const at::Tensor values = split.narrow(1, rotated, heads.kv_heads);
  const int64_t end = view.first + view.count;
  const auto append = [&](at::Tensor& all, const at::Tensor& more) {
    all = all.defined() ? torch::cat({all, more}, 2) : more.contiguous();
    TORCH_INTERNAL_ASSERT(all.size(2) == end);
  };
  append(cache.keys, turned.narrow(1, heads.heads, heads.kv_heads));
  append(cache.values, values);
  const int64_t group = heads.heads / heads.kv_heads;
  const auto shared = [&](const at::Tensor& t) {
    return group == 1 ? t : t.repeat_interleave(group, 1);
  };
  const at::Tensor attended =
      at::scaled_dot_product_attention(turned.narrow(1, 0, heads.heads), shared(cache.keys),
                                       shared(cache.values), view.visible)
          .transpose(1, 2)
          .reshape({view.batch * view.count, heads.heads * heads.head_dim});
  residual.delta = attention_out->forward(attended);
  residual.delta = feed_forward(residual);
  return residual;
}

}  // namespace espalier
