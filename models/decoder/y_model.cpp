#include "models/decoder/y_model.h"

#include <set>

namespace espalier {
namespace {

constexpr double kEmbeddingDeviation = 0.02;

std::string names_of(const std::vector<BranchOptions>& branches) {
  std::string names;
  for (const BranchOptions& branch : branches) {
    names += (names.empty() ? "\"" : ", \"") + branch.name + "\"";
  }
  return names;
}

void check(const YModelOptions& o) {
  TORCH_CHECK(o.width > 0 && o.heads > 0 &&
                  (o.head_dim > 0 || (o.width % o.heads == 0 && o.width / o.heads % 2 == 0)),
              "the Y-shaped model wants a width divisible by heads into even parts, got width ",
              o.width, " and ", o.heads, " heads");
  TORCH_CHECK(o.trunk_layers >= 0, "trunk_layers must not be negative, got ", o.trunk_layers);
  TORCH_CHECK(o.depth_width % o.depth_heads == 0, "depth_width ", o.depth_width,
              " must be divisible by depth_heads ", o.depth_heads);
  TORCH_CHECK(!o.branches.empty(), "the Y-shaped model wants at least one branch");
  std::set<std::string> names;
  for (const BranchOptions& branch : o.branches) {
    TORCH_CHECK(!branch.name.empty() && branch.name.find('.') == std::string::npos,
                "a branch wants a name without dots, got \"", branch.name, "\"");
    TORCH_CHECK(names.insert(branch.name).second, "two branches are called \"", branch.name, "\"");
    TORCH_CHECK(branch.layers >= 0, "branch \"", branch.name, "\" has ", branch.layers, " layers");
    TORCH_CHECK(!o.has_tied_text_head || branch.head != BranchHead::kText || branch.width == 0 ||
                    branch.width == o.width,
                "branch \"", branch.name, "\" predicts text by the embedding, so its width is ",
                o.width, ", not ", branch.width);
  }
}

DepthTransformerOptions depth_options(const YModelOptions& o, int64_t context_width) {
  return {.context_width = context_width,
          .code_channels = o.code_channels,
          .width = o.depth_width,
          .heads = o.depth_heads,
          .layers = o.depth_layers,
          .feed_forward_width = o.depth_feed_forward_width,
          .stages = o.stages,
          .codebook_size = o.codebook_size,
          .has_shared_classifier = o.depth_shared_classifier,
          .norm_epsilon = o.norm_epsilon};
}

void copy_parameters(torch::nn::Module& to, const torch::nn::Module& from) {
  const torch::NoGradGuard no_grad;
  const auto source = from.named_parameters();
  for (auto& parameter : to.named_parameters()) parameter.value().copy_(source[parameter.key()]);
}

}  // namespace

TransformerBlockOptions trunk_block(const YModelOptions& o) {
  return {.width = o.width,
          .heads = {o.heads, o.kv_heads, o.head_dim > 0 ? o.head_dim : o.width / o.heads},
          .feed_forward_width = o.feed_forward_width,
          .query_key_value_bias = o.query_key_value_bias,
          .attention_out_bias = o.attention_out_bias,
          .feed_forward_bias = o.feed_forward_bias,
          .norm_epsilon = o.norm_epsilon};
}

TransformerBlockOptions branch_block(const YModelOptions& o, const BranchOptions& branch) {
  const auto either = [](int64_t own, int64_t trunk) { return own > 0 ? own : trunk; };
  TransformerBlockOptions block = trunk_block(o);
  block.width = either(branch.width, block.width);
  block.heads.heads = either(branch.heads, block.heads.heads);
  block.heads.kv_heads = either(branch.kv_heads, block.heads.kv_heads);
  block.feed_forward_width = either(branch.feed_forward_width, block.feed_forward_width);
  return block;
}

YModelImpl::YModelImpl(const YModelOptions& o) : options_(o) {
  check(o);
  // Buffers, so that they move with the module.
  rotary_ = make_rotary_table(o.longest_sequence, trunk_block(o).heads.head_dim, o.rotary);
  register_buffer("rotary_cosines", rotary_.cosines);
  register_buffer("rotary_sines", rotary_.sines);
  text_embedding_ =
      register_module("text_embedding", torch::nn::Embedding(o.vocabulary_size, o.width));
  torch::nn::init::normal_(text_embedding_->weight, 0.0, kEmbeddingDeviation);
  if (o.has_tied_text_head) tied_text_head_ = Linear(text_embedding_->weight);
  if (o.image_positions > 0) {
    image_marks_ =
        register_parameter("image_marks", torch::randn({2, o.width}) * kEmbeddingDeviation);
    position_embedding_ = register_parameter(
        "position_embedding", torch::randn({o.image_positions, o.width}) * kEmbeddingDeviation);
    projector_ = register_module("projector", Projector(o.code_channels, o.width));
  }
  register_module("trunk", trunk_);
  for (int64_t i = 0; i < o.trunk_layers; ++i) trunk_->push_back(TransformerBlock(trunk_block(o)));
  const auto group = register_module("branch", std::make_shared<torch::nn::Module>("Branches"));
  for (const BranchOptions& branch : o.branches) build_branch(*group, branch);
}

void YModelImpl::build_branch(torch::nn::Module& group, const BranchOptions& branch) {
  const YModelOptions& o = options_;
  const TransformerBlockOptions block = branch_block(o, branch);
  const BranchShape shape = {.trunk_width = o.width,
                             .block = block,
                             .depth = depth_options(o, block.width),
                             .vocabulary_size = o.vocabulary_size,
                             .has_text_head = !o.has_tied_text_head,
                             .semantic_channels = o.semantic_channels};
  Branch arm(branch, shape);
  branches_.push_back(group.register_module(branch.name, arm));
  const BranchOptions& first = o.branches.front();
  if (branches_.size() > 1 && branch.layers == first.layers && branch_block(o, first) == block) {
    copy_parameters(*arm->layers, *branches_.front()->layers);
    copy_parameters(*arm->norm, *branches_.front()->norm);
  }
}

int64_t YModelImpl::branch_index(const std::string& name) const {
  for (size_t i = 0; i < branches_.size(); ++i) {
    if (options_.branches[i].name == name) return static_cast<int64_t>(i);
  }
  TORCH_CHECK(false, "the model has no branch \"", name, "\", it has ",
              names_of(options_.branches));
}

BranchImpl& YModelImpl::branch_at(int64_t branch) const {
  TORCH_CHECK(branch >= 0 && branch < static_cast<int64_t>(branches_.size()), "there is no branch ",
              branch, " in a model with ", branches_.size(), ": ", names_of(options_.branches));
  return *branches_[static_cast<size_t>(branch)].ptr();
}

at::Tensor YModelImpl::embed(const TokenRows& rows, int64_t branch) {
  std::vector<at::Tensor> parts;
  if (image_marks_.defined()) {
    parts.push_back(image_marks_);
  } else {  // sources are numbered as if there were two
    parts.push_back(text_embedding_->weight.new_zeros({kFirstText, options_.width}));
  }
  if (rows.text_ids.defined() && rows.text_ids.numel() > 0) {
    parts.push_back(at::embedding(text_embedding_->weight, rows.text_ids, options_.padding_id));
  }
  if (rows.code_sums.defined() && rows.code_sums.numel() > 0) {
    at::Tensor image = projector_->forward(rows.code_sums).to(at::kFloat) +
                       position_embedding_.index_select(0, rows.positions);
    if (rows.semantics.defined()) {
      BranchImpl& reader = branch_at(branch);
      TORCH_CHECK(!reader.semantic_projector.is_empty(), "semantic vectors were given to branch \"",
                  reader.options().name,
                  "\", which has no projector for them: only branches for text of a model with "
                  "semantic_channels do");
      image = image + reader.semantic_projector->forward(rows.semantics);
    }
    parts.push_back(image);
  }
  return torch::cat(parts).index_select(0, rows.sources);
}

template <class Layer>
Residual YModelImpl::through_layers(Residual residual, BranchImpl& arm, const Layer& layer) {
  for (const auto& each : *trunk_) residual = layer(*each->as<TransformerBlock>(), residual);
  residual = arm.enter(residual);
  for (const auto& each : *arm.layers) residual = layer(*each->as<TransformerBlock>(), residual);
  return residual;
}

at::Tensor YModelImpl::hidden(const TokenRows& rows, int64_t branch) {
  BranchImpl& arm = branch_at(branch);
  Residual residual = through_layers({embed(rows, branch), {}}, arm,
                                     [&](TransformerBlockImpl& layer, const Residual& before) {
                                       return layer.forward(before, rows.mask, rotary_);
                                     });
  return arm.norm->forward(residual);
}

std::vector<at::Tensor> YModelImpl::hidden_states(const TokenRows& rows, int64_t branch) {
  BranchImpl& arm = branch_at(branch);
  const at::Tensor embedded = embed(rows, branch);
  std::vector<at::Tensor> states = {embedded};
  Residual residual =
      through_layers({embedded, {}}, arm, [&](TransformerBlockImpl& layer, const Residual& before) {
        const Residual after = layer.forward(before, rows.mask, rotary_);
        states.push_back(after.x + after.delta);
        return after;
      });
  states.back() = arm.norm->forward(residual);
  return states;
}

at::Tensor YModelImpl::text_logits(const at::Tensor& hidden, int64_t branch) {
  BranchImpl& arm = branch_at(branch);
  TORCH_CHECK(arm.options().head == BranchHead::kText, "branch \"", arm.options().name,
              "\" predicts codes, not text");
  return (arm.text_head.is_empty() ? tied_text_head_ : arm.text_head)->forward(hidden);
}

DepthTransformer& YModelImpl::depth(int64_t branch) {
  BranchImpl& arm = branch_at(branch);
  TORCH_CHECK(!arm.depth.is_empty(), "branch \"", arm.options().name,
              "\" predicts text, not codes");
  return arm.depth;
}

at::Tensor YModelImpl::step(const at::Tensor& embeddings, int64_t branch, KeyValueCache& cache,
                            int64_t count) {
  const torch::NoGradGuard no_grad;
  BranchImpl& arm = branch_at(branch);
  const CacheView view = cache.extend(count);
  TORCH_CHECK(embeddings.size(0) == view.batch * count, "step wants ", view.batch * count,
              " rows, got ", embeddings.size(0));
  int64_t index = 0;
  Residual residual = through_layers(
      {embeddings, {}}, arm, [&](TransformerBlockImpl& layer, const Residual& before) {
        return layer.step(before, rotary_, cache.layer(index++), view);
      });
  return arm.norm->forward(residual);
}

int64_t YModelImpl::cache_layers(int64_t branch) const {
  return options_.trunk_layers + branch_at(branch).options().layers;
}

std::vector<at::Tensor> YModelImpl::trunk_parameters() const {
  std::vector<at::Tensor> all = {text_embedding_->weight};
  const auto add = [&](const torch::nn::Module& module) {
    for (const auto& parameter : module.parameters()) all.push_back(parameter);
  };
  if (image_marks_.defined()) {
    all.push_back(image_marks_);
    all.push_back(position_embedding_);
    add(*projector_);
  }
  add(*trunk_);
  return all;
}

std::vector<at::Tensor> YModelImpl::branch_parameters(int64_t branch) const {
  return branch_at(branch).parameters();
}

void YModelImpl::forget_cached_weights() {
  if (!tied_text_head_.is_empty()) tied_text_head_->forget_cached_weight();
  for (const auto& module : modules(/*include_self=*/false)) {
    if (auto* linear = module->as<Linear>()) linear->forget_cached_weight();
  }
}

}  // namespace espalier
