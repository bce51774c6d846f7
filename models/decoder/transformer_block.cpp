#include "models/decoder/transformer_block.h"

#include <cmath>

#include "models/layers/batch_invariance.h"
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
  attention_out =
      register_module("attention_out", Linear(attended, width, options.attention_out_bias));
  feed_forward_norm = register_module("feed_forward_norm", RmsNorm(width, options.norm_epsilon));
  const int64_t inner = options.feed_forward_width;
  gate_up = register_module("gate_up", Linear(width, 2 * inner, options.feed_forward_bias));
  down = register_module("down", Linear(inner, width, options.feed_forward_bias));
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
  const PlainProducts tokens_one_by_one;
  const AttentionHeads& heads = options_.heads;
  const at::Tensor qkv = query_key_value->forward(attention_norm->forward(residual));
  const int64_t rotated = heads.heads + heads.kv_heads;
  at::Tensor qk = qkv.narrow(1, 0, rotated * heads.head_dim)
                      .view({view.batch, view.count, rotated, heads.head_dim});
  if (table.cosines.defined()) {
    qk = rotate(qk, {table.cosines.narrow(0, view.first, view.count).unsqueeze(1),
                     table.sines.narrow(0, view.first, view.count).unsqueeze(1)});
  }
  const int64_t kv_width = heads.kv_heads * heads.head_dim;
  const int64_t end = view.first + view.count;
  // The cache with the new tokens, as rows.
  const auto append = [&](at::Tensor& all, const at::Tensor& more) {
    const at::Tensor rows = more.reshape({view.batch, view.count, kv_width});
    all = all.defined() ? torch::cat({all, rows}, 1) : rows.contiguous();
    TORCH_INTERNAL_ASSERT(all.size(1) == end);
    return all.view({view.batch * end, kv_width});
  };
  const at::Tensor keys = append(cache.keys, qk.narrow(2, heads.heads, heads.kv_heads));
  const at::Tensor values = append(cache.values, qkv.narrow(1, rotated * heads.head_dim, kv_width));
  const at::Tensor queries =
      qk.narrow(2, 0, heads.heads).reshape({view.batch * view.count, heads.heads * heads.head_dim});
  const at::Tensor attended = block_attention(queries, keys, values, view.mask, heads);
  residual.delta = attention_out->forward(attended);
  residual.delta = feed_forward(residual);
  return residual;
}

}  // namespace espalier
