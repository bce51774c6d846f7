#include "models/layers/pre_norm_block.h"

namespace espalier {

torch::nn::LayerNorm make_layer_norm(int64_t width, double epsilon, bool affine) {
  return torch::nn::LayerNorm(
      torch::nn::LayerNormOptions({width}).eps(epsilon).elementwise_affine(affine));
}

Linear make_xavier_linear(int64_t in_features, int64_t out_features, bool with_bias) {
  Linear linear(in_features, out_features, with_bias);
  torch::nn::init::xavier_uniform_(linear->weight);
  return linear;
}

at::Tensor as_residual(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
}

PreNormBlockImpl::PreNormBlockImpl(const PreNormBlockOptions& options) : options_(options) {
  const int64_t width = options.width;
  TORCH_CHECK(options.heads > 0 && width % options.heads == 0 && options.mlp_width > 0,
              "a transformer block wants heads that divide its width, got width ", width, ", ",
              options.heads, " heads, mlp_width ", options.mlp_width);
  const auto norm = [&] {
    return make_layer_norm(width, options.norm_epsilon, options.affine_norm);
  };
  attention_norm = register_module("attention_norm", norm());
  query_key_value = register_module("query_key_value", make_xavier_linear(width, 3 * width));
  attention_out = register_module("attention_out", make_xavier_linear(width, width));
  mlp_norm = register_module("mlp_norm", norm());
  mlp_in = register_module("mlp_in", make_xavier_linear(width, options.mlp_width));
  mlp_out = register_module("mlp_out", make_xavier_linear(options.mlp_width, width));
}

at::Tensor PreNormBlockImpl::forward(const at::Tensor& rows, const AttentionMask& mask) {
  const AttentionHeads heads{options_.heads, options_.heads, options_.width / options_.heads};
  const at::Tensor qkv = query_key_value->forward(attention_norm->forward(rows));
  // The stream is fp32 and a layer's output is in the compute type: the sum is fp32.
  const at::Tensor attended =
      rows + attention_out->forward(packed_attention(qkv, mask, heads, RotaryTable{}));
  const at::Tensor wide = mlp_in->forward(mlp_norm->forward(attended));
  return attended +
         mlp_out->forward(at::gelu(wide, options_.gelu == Gelu::kTanh ? "tanh" : "none"));
}

torch::nn::ModuleList make_pre_norm_blocks(int64_t count, const PreNormBlockOptions& options) {
  torch::nn::ModuleList blocks;
  for (int64_t i = 0; i < count; ++i) blocks->push_back(PreNormBlock(options));
  return blocks;
}

at::Tensor run_pre_norm_blocks(const torch::nn::ModuleList& blocks, at::Tensor rows,
                               const AttentionMask& mask) {
  for (const auto& block : *blocks) rows = block->as<PreNormBlockImpl>()->forward(rows, mask);
  return rows;
}

}  // namespace espalier
