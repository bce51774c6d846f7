#include "models/decoder/y_model.h"

namespace espalier {
namespace {

constexpr double kEmbeddingDeviation = 0.02;

void check(const YModelOptions& o) {
  TORCH_CHECK(o.width > 0 && o.heads > 0 && o.width % o.heads == 0 && o.width / o.heads % 2 == 0,
              "the Y-shaped model wants a width divisible by heads into even parts, got width ",
              o.width, " and ", o.heads, " heads");
  TORCH_CHECK(o.trunk_layers >= 0 && o.understanding_layers >= 0 && o.generation_layers >= 0,
              "numbers of layers must not be negative");
  TORCH_CHECK(o.depth_width % o.depth_heads == 0, "depth_width ", o.depth_width,
              " must be divisible by depth_heads ", o.depth_heads);
}

TransformerBlockOptions block_options(const YModelOptions& o) {
  return {.width = o.width,
          .heads = {o.heads, o.kv_heads, o.width / o.heads},
          .feed_forward_width = o.feed_forward_width,
          .query_key_value_bias = o.query_key_value_bias,
          .norm_epsilon = o.norm_epsilon};
}

void copy_parameters(torch::nn::Module& to, const torch::nn::Module& from) {
  const torch::NoGradGuard no_grad;
  const auto source = from.named_parameters();
  for (auto& parameter : to.named_parameters()) parameter.value().copy_(source[parameter.key()]);
}

template <class... Modules>
std::vector<torch::Tensor> parameters_of(const Modules&... modules) {
  std::vector<torch::Tensor> all;
  const auto add = [&](const torch::nn::Module& module) {
    for (const auto& parameter : module.parameters()) all.push_back(parameter);
  };
  (add(*modules), ...);
  return all;
}

}  // namespace

ProjectorImpl::ProjectorImpl(int64_t in_features, int64_t width) {
  in_ = register_module("in", Linear(in_features, width, /*with_bias=*/true));
  out_ = register_module("out", Linear(width, width, /*with_bias=*/true));
}

torch::Tensor ProjectorImpl::forward(const torch::Tensor& x) {
  return out_->forward(torch::gelu(in_->forward(x)));
}

YModelImpl::YModelImpl(const YModelOptions& o) : options_(o) {
  check(o);
  rotary_ = make_rotary_table(o.longest_sequence, o.width / o.heads, o.rotary_base);
  text_embedding_ =
      register_module("text_embedding", torch::nn::Embedding(o.vocabulary_size, o.width));
  torch::nn::init::normal_(text_embedding_->weight, 0.0, kEmbeddingDeviation);
  image_marks_ =
      register_parameter("image_marks", torch::randn({2, o.width}) * kEmbeddingDeviation);
  position_embedding_ = register_parameter(
      "position_embedding", torch::randn({o.image_positions, o.width}) * kEmbeddingDeviation);
  projector_ = register_module("projector", Projector(o.code_channels, o.width));
  const auto add_layers = [&](const char* name, torch::nn::ModuleList& list, int64_t count) {
    register_module(name, list);
    for (int64_t i = 0; i < count; ++i) list->push_back(TransformerBlock(block_options(o)));
  };
  add_layers("trunk", trunk_, o.trunk_layers);
  if (o.semantic_channels > 0) {
    semantic_projector_ =
        register_module("semantic_projector", Projector(o.semantic_channels, o.width));
  }
  add_layers("understanding", understanding_, o.understanding_layers);
  understanding_norm_ = register_module("understanding_norm", RmsNorm(o.width, o.norm_epsilon));
  text_head_ = register_module("text_head", Linear(o.width, o.vocabulary_size));
  add_layers("generation", generation_, o.generation_layers);
  generation_norm_ = register_module("generation_norm", RmsNorm(o.width, o.norm_epsilon));
  if (o.understanding_layers == o.generation_layers) copy_parameters(*generation_, *understanding_);
  depth_ = register_module("depth", DepthTransformer(DepthTransformerOptions{
                                        .context_width = o.width,
                                        .code_channels = o.code_channels,
                                        .width = o.depth_width,
                                        .heads = o.depth_heads,
                                        .layers = o.depth_layers,
                                        .feed_forward_width = o.depth_feed_forward_width,
                                        .stages = o.stages,
                                        .codebook_size = o.codebook_size,
                                        .norm_epsilon = o.norm_epsilon}));
}

torch::Tensor YModelImpl::embed(const TokenRows& rows) {
  std::vector<torch::Tensor> parts = {image_marks_};
  if (rows.text_ids.defined() && rows.text_ids.numel() > 0) {
    parts.push_back(text_embedding_->forward(rows.text_ids));
  }
  if (rows.code_sums.defined() && rows.code_sums.numel() > 0) {
    torch::Tensor image = projector_->forward(rows.code_sums).to(torch::kFloat) +
                          position_embedding_.index_select(0, rows.positions);
    if (rows.semantics.defined()) {
      TORCH_CHECK(!semantic_projector_.is_empty(),
                  "semantic vectors were given to a model made without semantic_channels");
      image = image + semantic_projector_->forward(rows.semantics);
    }
    parts.push_back(image);
  }
  return torch::cat(parts).index_select(0, rows.sources);
}

torch::Tensor YModelImpl::hidden(const TokenRows& rows, Branch branch) {
  Residual residual{embed(rows), {}};
  for (auto* layers : {&trunk_, &layers_of(branch)}) {
    for (const auto& layer : **layers) {
      residual = layer->as<TransformerBlock>()->forward(residual, rows.layout, rotary_);
    }
  }
  return norm_of(branch)->forward(residual);
}

torch::Tensor YModelImpl::step(const torch::Tensor& embeddings, Branch branch, KeyValueCache& cache,
                               int64_t count) {
  const torch::NoGradGuard no_grad;
  const CacheView view = cache.extend(count);
  TORCH_CHECK(embeddings.size(0) == view.batch * count, "step wants ", view.batch * count,
              " rows, got ", embeddings.size(0));
  Residual residual{embeddings, {}};
  int64_t index = 0;
  for (auto* layers : {&trunk_, &layers_of(branch)}) {
    for (const auto& layer : **layers) {
      residual = layer->as<TransformerBlock>()->step(residual, rotary_, cache.layer(index++), view);
    }
  }
  return norm_of(branch)->forward(residual);
}

int64_t YModelImpl::cache_layers(Branch branch) const {
  return options_.trunk_layers + (branch == Branch::kUnderstanding ? options_.understanding_layers
                                                                   : options_.generation_layers);
}

std::vector<torch::Tensor> YModelImpl::trunk_parameters() const {
  auto all = parameters_of(text_embedding_, projector_, trunk_);
  all.insert(all.begin() + 1, {image_marks_, position_embedding_});
  return all;
}

std::vector<torch::Tensor> YModelImpl::branch_parameters(Branch branch) const {
  if (branch == Branch::kGeneration) return parameters_of(generation_, generation_norm_, depth_);
  auto all = parameters_of(understanding_, understanding_norm_, text_head_);
  if (semantic_projector_.is_empty()) return all;
  const auto projector = parameters_of(semantic_projector_);
  all.insert(all.begin(), projector.begin(), projector.end());
  return all;
}

void YModelImpl::forget_cached_weights() {
  for (const auto& module : modules(/*include_self=*/false)) {
    if (auto* linear = module->as<Linear>()) linear->forget_cached_weight();
  }
}

}  // namespace espalier
