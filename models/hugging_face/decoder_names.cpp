#include "models/hugging_face/decoder_names.h"

#include <algorithm>
#include <set>

#include <torch/torch.h>

#include "models/errors.h"
#include "models/hugging_face/weight_folder.h"

namespace espalier {
namespace {

// Writes down the tensors of one decoder after the other.
class NameList {
 public:
  explicit NameList(const YModelOptions& options) : options_(options) {}

  void add(const std::string& theirs, const std::string& ours, int64_t rows, int64_t first = 0) {
    names_.push_back({theirs, ours, first, rows, layer_});
  }

  void add_layer(int64_t number, const std::string& ours) {
    layer_ = number;
    const TransformerBlockOptions block = trunk_block(options_);
    const std::string theirs = "model.layers." + std::to_string(number) + ".";
    const int64_t dim = block.heads.head_dim;
    const int64_t queries = block.heads.heads * dim, keys = block.heads.kv_heads * dim;
    const int64_t inner = block.feed_forward_width, width = block.width;
    add(theirs + "input_layernorm.weight", ours + "attention_norm.weight", width);
    const auto add_attention = [&](const std::string& kind) {
      const std::string packed = ours + "query_key_value." + kind;
      add(theirs + "self_attn.q_proj." + kind, packed, queries);
      add(theirs + "self_attn.k_proj." + kind, packed, keys, queries);
      add(theirs + "self_attn.v_proj." + kind, packed, keys, queries + keys);
    };
    add_attention("weight");
    if (block.query_key_value_bias) add_attention("bias");
    add(theirs + "self_attn.o_proj.weight", ours + "attention_out.weight", width);
    if (block.attention_out_bias) {
      add(theirs + "self_attn.o_proj.bias", ours + "attention_out.bias", width);
    }
    add(theirs + "post_attention_layernorm.weight", ours + "feed_forward_norm.weight", width);
    add_feed_forward(theirs, ours, "weight", inner, width);
    if (block.feed_forward_bias) add_feed_forward(theirs, ours, "bias", inner, width);
    layer_ = -1;
  }

  std::vector<DecoderName> take() { return std::move(names_); }

 private:
  void add_feed_forward(const std::string& theirs, const std::string& ours, const std::string& kind,
                        int64_t inner, int64_t width) {
    add(theirs + "mlp.gate_proj." + kind, ours + "gate_up." + kind, inner);
    add(theirs + "mlp.up_proj." + kind, ours + "gate_up." + kind, inner, inner);
    add(theirs + "mlp.down_proj." + kind, ours + "down." + kind, width);
  }

  const YModelOptions& options_;
  int64_t layer_ = -1;
  std::vector<DecoderName> names_;
};

int64_t layers_in(const WeightFolder& weights) {
  int64_t layers = 0;
  while (weights.has("model.layers." + std::to_string(layers) + ".input_layernorm.weight")) {
    ++layers;
  }
  return layers;
}

// Kept by some checkpoints though nothing reads it.
bool is_needless(const std::string& name) { return name.ends_with("rotary_emb.inv_freq"); }

void require_places(const WeightFolder& weights, const std::set<std::string>& used,
                    const YModelOptions& o) {
  for (const std::string& name : weights.names()) {
    if (used.contains(name) || is_needless(name)) continue;
    // A tied head is often written beside the embedding that it is.
    if (name == "lm_head.weight" && o.has_tied_text_head) continue;
    throw WeightsError(weights.file_of(name) + ": tensor \"" + name +
                       "\" has no place in a decoder of this config.json");
  }
}

}  // namespace

std::vector<DecoderName> decoder_names(const YModelOptions& o, int64_t branch) {
  const BranchOptions& arm = o.branches.at(static_cast<size_t>(branch));
  const std::string upper = "branch." + arm.name + ".";
  NameList list(o);
  list.add("model.embed_tokens.weight", "text_embedding.weight", o.vocabulary_size);
  for (int64_t i = 0; i < o.trunk_layers; ++i) {
    list.add_layer(i, "trunk." + std::to_string(i) + ".");
  }
  for (int64_t i = 0; i < arm.layers; ++i) {
    list.add_layer(o.trunk_layers + i, upper + "layers." + std::to_string(i) + ".");
  }
  list.add("model.norm.weight", upper + "norm.weight", o.width);
  if (arm.head == BranchHead::kText && !o.has_tied_text_head) {
    list.add("lm_head.weight", upper + "text_head.weight", o.vocabulary_size);
  }
  return list.take();
}

void load_decoder(WeightFolder& weights, YModel& model) {
  const YModelOptions& o = model->options();
  const auto parameters = model->named_parameters();
  const int64_t layers = layers_in(weights);
  std::set<std::string> used;
  for (size_t branch = 0; branch < o.branches.size(); ++branch) {
    if (branch_block(o, o.branches[branch]) != trunk_block(o)) continue;
    for (const DecoderName& name : decoder_names(o, static_cast<int64_t>(branch))) {
      const bool is_deeper = name.layer >= std::max(layers, o.trunk_layers);
      const bool is_of_trunk = !name.ours.starts_with("branch.");
      if (is_deeper || (is_of_trunk && used.contains(name.theirs))) continue;
      used.insert(name.theirs);
      weights.read_into(name.theirs, name.part_of(parameters[name.ours]));
    }
  }
  require_places(weights, used, o);
  model->forget_cached_weights();
}

}  // namespace espalier
