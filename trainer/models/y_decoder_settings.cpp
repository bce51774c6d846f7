#include "trainer/models/y_decoder_settings.h"

#include <filesystem>

#include "models/hugging_face/decoder_config.h"
#include "trainer/errors.h"
#include "trainer/models/divides.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

constexpr int64_t kLayersWithoutBackbone = 2;

// Of one layer: queries, keys and values, what they become, and the gated feed-forward.
double layer_numbers(const TransformerBlockOptions& block) {
  const auto width = static_cast<double>(block.width);
  const auto attended = static_cast<double>(block.heads.heads * block.heads.head_dim);
  return width * (static_cast<double>(block.heads.row_width()) + attended +
                  3 * static_cast<double>(block.feed_forward_width));
}

std::vector<BranchOptions> branch_options(
    const std::vector<YDecoderSettings::BranchSettings>& branches, int64_t layers) {
  std::vector<BranchOptions> options;
  for (const auto& branch : branches) {
    options.push_back({.name = branch.name,
                       .layers = branch.layers < 0 ? layers : branch.layers,
                       .head = branch.head == "text" ? BranchHead::kText : BranchHead::kCodes,
                       .width = branch.width,
                       .heads = branch.heads,
                       .kv_heads = branch.kv_heads,
                       .feed_forward_width = branch.feed_forward_width});
  }
  return options;
}

}  // namespace

void YDecoderSettings::declare_trunk(SettingsScope scope) {
  YModelOptions& o = options;
  scope.add(
      "backbone", backbone,
      {.help = "Hugging Face folder of a Qwen2 or Llama that it begins as: its sizes, and its "
               "weights in the trunk and above the fork in every branch of its width; empty "
               "= the sizes below, and random weights.",
       .also = {"pretrained", "model_name_or_path", "init_from", "base_model"}});
  scope.add("width", o.width,
            {.help = "Width of trunk and branches.",
             .unit = "channels",
             .min = 8,
             .max = 65536,
             .also = {"dim", "d_model", "hidden_size", "n_embd", "embed_dim"}});
  scope.add("heads", o.heads,
            {.help = "Attention heads; must divide the width.",
             .unit = "heads",
             .min = 1,
             .max = 1024,
             .also = {"n_head", "num_heads", "num_attention_heads"}});
  scope.add("kv_heads", o.kv_heads,
            {.help = "Heads of keys and values; must divide the heads.",
             .unit = "heads",
             .min = 1,
             .max = 1024,
             .also = {"n_kv_head", "num_key_value_heads"}});
  scope.add("feed_forward_width", o.feed_forward_width,
            {.help = "Inner width of the gated feed-forward of a layer.",
             .unit = "channels",
             .min = 8,
             .max = 262144,
             .also = {"ffn_dim", "d_ff", "intermediate_size", "mlp_dim"}});
  scope.add("trunk_layers", o.trunk_layers,
            {.help = "The fork layer: layers that all tasks share; 0 = a model for each branch but "
                     "for the embeddings, all of a backbone's = branches are heads.",
             .unit = "layers",
             .min = 0,
             .max = 1000,
             .also = {"layers", "n_layer", "num_layers", "num_hidden_layers", "depth", "fork_layer",
                      "num_shared"}});
  scope.add(
      "query_key_value_bias", o.query_key_value_bias,
      {.help = "Biases of queries, keys and values, as Qwen2 has them.", .also = {"qkv_bias"}});
  scope.add("tied_text_head", o.has_tied_text_head,
            {.help = "Branches predict text by the embedding of text, not by a head of their own.",
             .also = {"tie_word_embeddings", "tie_embeddings", "weight_tying"}});
  scope.add("rotary_base", rotary_base,
            {.help = "Base of rotary positions.", .min = 1, .max = 1e12, .also = {"rope_theta"}});
  scope.add("vocabulary_size", vocabulary_size,
            {.help = "Rows of the text embedding; 0 = as many as the text tokenizer has tokens, or "
                     "the backbone has rows.",
             .unit = "tokens",
             .min = 0,
             .max = 1e7,
             .also = {"vocab_size"}});
}

void YDecoderSettings::declare_depth(SettingsScope scope) {
  YModelOptions& o = options;
  scope.add("depth_width", o.depth_width,
            {.help = "Width of the depth transformer over the codes of one position.",
             .unit = "channels",
             .min = 8,
             .max = 65536});
  scope.add("depth_heads", o.depth_heads,
            {.help = "Attention heads of the depth transformer; must divide depth_width.",
             .unit = "heads",
             .min = 1,
             .max = 1024});
  scope.add("depth_layers", o.depth_layers,
            {.help = "Layers of the depth transformer.", .unit = "layers", .min = 1, .max = 1000});
  scope.add("depth_feed_forward_width", o.depth_feed_forward_width,
            {.help = "Inner width of the feed-forward of the depth transformer.",
             .unit = "channels",
             .min = 8,
             .max = 262144});
  scope.add("depth_shared_classifier", o.depth_shared_classifier,
            {.help = "One classifier for the codes of all stages, as UniFork's tokenizer has one "
                     "codebook; else one for each stage."});
}

void YDecoderSettings::declare_branch(SettingsScope scope, BranchSettings& branch) {
  scope.add("layers", branch.layers,
            {.help = "Layers after the fork; -1 = what the backbone has there, 2 without one.",
             .unit = "layers",
             .min = -1,
             .max = 1000});
  scope.add("head", branch.head,
            {.help = "What it predicts: text tokens, or the codes of an image.",
             .choices = {"text", "codes"}});
  const SettingSpec size{.help = "", .unit = "channels", .min = 0, .max = 262144};
  const auto add = [&](const std::string& name, int64_t& field, const std::string& help) {
    SettingSpec spec = size;
    spec.help = help + "; 0 = the trunk's.";
    scope.add(name, field, spec);
  };
  add("width", branch.width, "Width of its layers, a multiple of the width of a head");
  add("heads", branch.heads, "Attention heads of its layers");
  add("kv_heads", branch.kv_heads, "Heads of keys and values of its layers");
  add("feed_forward_width", branch.feed_forward_width, "Inner width of its feed-forward");
}

void YDecoderSettings::declare(SettingsScope scope) {
  scope.add("image_tokenizer", image_tokenizer,
            {.help = "Name of the model whose codes it reads and draws, frozen."});
  scope.add("text", text, {.help = "Name of the text tokenizer."});
  scope.add("max_text_tokens", max_text_tokens,
            {.help = "Longest text, read or written; a sequence has a question and an answer.",
             .unit = "tokens",
             .min = 8,
             .max = 1e6,
             .also = {"seq_len", "max_length", "max_len", "context_length", "block_size"}});
  scope.add("max_pictures", max_pictures,
            {.help = "Most pictures of a sequence, the one that is drawn included; of a longer "
                     "conversation the last ones.",
             .unit = "pictures",
             .min = 1,
             .max = 1000,
             .also = {"max_images", "limit_mm_per_prompt", "max_num_images"}});
  declare_trunk(scope);
  declare_depth(scope);
  for (BranchSettings& branch : branches) {
    declare_branch(scope.below("branch").below(branch.name), branch);
  }
}

void YDecoderSettings::add_part(const std::string& table, const std::string& name) {
  if (table == "branch") branches.push_back({.name = name});
}

void YDecoderSettings::require_backbone_sizes(const YModelOptions& resolved,
                                              const std::string& where) const {
  const YModelOptions defaults;
  const auto require = [&](const std::string& name, int64_t set, int64_t usual, int64_t has) {
    if (set == usual || set == has) return;
    throw ConfigError(where + "." + name + " = " + std::to_string(set) + ", but " + backbone +
                      " has " + std::to_string(has) + "; leave it out");
  };
  require("width", options.width, defaults.width, resolved.width);
  require("heads", options.heads, defaults.heads, resolved.heads);
  require("kv_heads", options.kv_heads, defaults.kv_heads, resolved.kv_heads);
  require("feed_forward_width", options.feed_forward_width, defaults.feed_forward_width,
          resolved.feed_forward_width);
  require("vocabulary_size", vocabulary_size, 0, resolved.vocabulary_size);
}

YModelOptions YDecoderSettings::resolve(const std::string& where, const std::string& kept) const {
  YModelOptions o = options;
  o.rotary.base = rotary_base;
  o.vocabulary_size = vocabulary_size;
  int64_t above = kLayersWithoutBackbone;
  if (!backbone.empty()) {
    const bool is_kept = !kept.empty() && std::filesystem::exists(kept + "/config.json");
    const DecoderConfig config = read_decoder_config(is_kept ? kept : backbone);
    apply(config, o);
    require_backbone_sizes(o, where);
    if (o.trunk_layers > config.layers) {
      throw ConfigError(where + ".trunk_layers = " + std::to_string(o.trunk_layers) + ", but " +
                        backbone + " has " + std::to_string(config.layers) + " layers");
    }
    above = config.layers - o.trunk_layers;
  }
  o.branches = branch_options(branches, above);
  return o;
}

void YDecoderSettings::apply_image_sizes(const ImageTokenizerOptions& image,
                                         YModelOptions& o) const {
  // Pictures between their marks, a prompt and an answer with the marks of tasks.
  constexpr int64_t kTaskMarks = 6;
  o.longest_sequence = max_pictures * (image.positions() + 2) + 2 * max_text_tokens + kTaskMarks;
  o.image_positions = image.positions();
  o.code_channels = image.latent_channels;
  o.semantic_channels = image.semantic_channels();
  o.stages = image.pixel_stages;
  o.codebook_size = image.codebook_size;
}

void YDecoderSettings::validate(const RunConfig& config, const std::string& where) const {
  const ModelConfig& tokenizer = config.model_named(image_tokenizer, where + ".image_tokenizer");
  if (tokenizer.kind != "residual_image_tokenizer") {
    throw ConfigError(where + ".image_tokenizer = \"" + image_tokenizer +
                      "\": that model is of kind " + tokenizer.kind +
                      ", which has no image codes; residual_image_tokenizer has");
  }
  config.text_named(text, where + ".text");
  if (branches.empty()) {
    throw ConfigError(where + " has no branch; add a table [" + where + ".branch.NAME]");
  }
  const YModelOptions o = resolve(where, kept_backbone(config, where));
  if (backbone.empty()) {
    check_divides(where, "width", o.width, "heads", o.heads, /*into_even_parts=*/true);
    check_divides(where, "heads", o.heads, "kv_heads", o.kv_heads);
  }
  check_divides(where, "depth_width", o.depth_width, "depth_heads", o.depth_heads,
                /*into_even_parts=*/true);
  for (const BranchOptions& branch : o.branches) {
    const TransformerBlockOptions block = branch_block(o, branch);
    const std::string below = where + ".branch." + branch.name;
    check_divides(below, "heads", block.heads.heads, "kv_heads", block.heads.kv_heads);
    if (o.has_tied_text_head && branch.head == BranchHead::kText && block.width != o.width) {
      throw ConfigError(below + ".width = " + std::to_string(block.width) +
                        ": text is predicted by the embedding, whose width is " +
                        std::to_string(o.width) + "; leave it out, or set " + where +
                        ".tied_text_head = false");
    }
  }
}

int64_t YDecoderSettings::image_size(const RunConfig& config) const {
  return config.model_named(image_tokenizer, "image_tokenizer").settings->image_size(config);
}

std::string kept_backbone(const RunConfig& config, const std::string& where) {
  return config.directory + "/backbone-" + where.substr(where.rfind('.') + 1);
}

double least_numbers(const YModelOptions& o) {
  double numbers = static_cast<double>(o.width * o.width);  // the projector of image positions
  numbers += static_cast<double>(o.trunk_layers) * layer_numbers(trunk_block(o));
  TransformerBlockOptions depth{
      .width = o.depth_width,
      .heads = {o.depth_heads, o.depth_heads, o.depth_width / o.depth_heads},
      .feed_forward_width = o.depth_feed_forward_width};
  for (const BranchOptions& branch : o.branches) {
    numbers += static_cast<double>(branch.layers) * layer_numbers(branch_block(o, branch));
    if (branch.head == BranchHead::kCodes) {
      numbers += static_cast<double>(o.depth_layers) * layer_numbers(depth);
    }
  }
  return numbers;
}

}  // namespace espalier
