#include "trainer/models/y_decoder.h"

#include <spdlog/spdlog.h>

#include "data/text/utf8.h"
#include "trainer/errors.h"
#include "trainer/models/divides.h"
#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/models/seeded_start.h"
#include "trainer/named/named_things.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

constexpr int64_t kMarks = 8;  // begin and end of image, task tokens

YModelOptions module_options(const YDecoderSettings& settings, const ImageTokenizerOptions& image,
                             const TextVocabulary& text) {
  YModelOptions o = settings.options;
  for (const auto& branch : settings.branches) {
    o.branches.push_back({.name = branch.name,
                          .layers = branch.layers,
                          .head = branch.head == "text" ? BranchHead::kText : BranchHead::kCodes});
  }
  o.longest_sequence = image.positions() + 2 * settings.max_text_tokens + kMarks;  // and an answer
  o.vocabulary_size = text.size();
  o.image_positions = image.positions();
  o.code_channels = image.latent_channels;
  o.semantic_channels = image.semantic_channels();
  o.stages = image.pixel_stages;
  o.codebook_size = image.codebook_size;
  return o;
}

void declare_trunk(SettingsScope& scope, YModelOptions& o) {
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
            {.help = "Layers that all tasks share.",
             .unit = "layers",
             .min = 0,
             .max = 1000,
             .also = {"layers", "n_layer", "num_layers", "num_hidden_layers", "depth"}});
}

void declare_depth(SettingsScope& scope, YModelOptions& o) {
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
}

// Of one layer: queries, keys and values, what they become, and the gated feed-forward.
double layer_numbers(double width, double key_width, double feed_forward_width) {
  return width * (2 * width + 2 * key_width + 3 * feed_forward_width);
}

// Without embeddings and heads.
double least_numbers(const ModelConfig& config) {
  const auto& settings = settings_as<YDecoderSettings>(config.settings);
  const YModelOptions& o = settings.options;
  const auto width = static_cast<double>(o.width), depth = static_cast<double>(o.depth_width);
  const double keys = width / static_cast<double>(o.heads) * static_cast<double>(o.kv_heads);
  auto layers = static_cast<double>(o.trunk_layers);
  double numbers = width * width;  // the projector of image positions
  for (const auto& branch : settings.branches) {
    layers += static_cast<double>(branch.layers);
    if (branch.head != "codes") continue;
    numbers += static_cast<double>(o.depth_layers) *
               layer_numbers(depth, depth, static_cast<double>(o.depth_feed_forward_width));
  }
  return numbers + layers * layer_numbers(width, keys, static_cast<double>(o.feed_forward_width));
}

}  // namespace

std::string branch_group(const std::string& branch) { return "branch." + branch; }

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
  declare_trunk(scope, options);
  declare_depth(scope, options);
  for (BranchSettings& branch : branches) {
    SettingsScope below = scope.below("branch").below(branch.name);
    below.add("layers", branch.layers,
              {.help = "Layers after the fork.", .unit = "layers", .min = 0, .max = 1000});
    below.add("head", branch.head,
              {.help = "What it predicts: text tokens, or the codes of an image.",
               .choices = {"text", "codes"}});
  }
}

void YDecoderSettings::add_part(const std::string& table, const std::string& name) {
  if (table == "branch") branches.push_back({.name = name});
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
  check_divides(where, "width", options.width, "heads", options.heads, /*into_even_parts=*/true);
  check_divides(where, "heads", options.heads, "kv_heads", options.kv_heads);
  check_divides(where, "depth_width", options.depth_width, "depth_heads", options.depth_heads,
                /*into_even_parts=*/true);
}

int64_t YDecoderSettings::image_size(const RunConfig& config) const {
  return config.model_named(image_tokenizer, "image_tokenizer").settings->image_size(config);
}

YDecoder::YDecoder(const ModelConfig& config, NamedThings& things)
    : name_(config.name),
      image_tokenizer_name_(settings_as<YDecoderSettings>(config.settings).image_tokenizer),
      device_(things.device()),
      image_tokenizer_(things.model_as<ResidualImageTokenizer>(
          image_tokenizer_name_, "model." + config.name + ".image_tokenizer")),
      text_(things.text(settings_as<YDecoderSettings>(config.settings).text)),
      max_text_tokens_(settings_as<YDecoderSettings>(config.settings).max_text_tokens) {
  const SeededStart seeded(static_cast<uint64_t>(things.config().seed));
  module_ = YModel(module_options(settings_as<YDecoderSettings>(config.settings),
                                  image_tokenizer_.options(), text_));
  module_->to(device_);
  state_changed();
}

std::vector<ParameterGroup> YDecoder::parameter_groups() {
  std::vector<ParameterGroup> groups = {{"trunk", module_->trunk_parameters()}};
  const auto& branches = module_->options().branches;
  for (size_t i = 0; i < branches.size(); ++i) {
    groups.push_back(
        {branch_group(branches[i].name), module_->branch_parameters(static_cast<int64_t>(i))});
  }
  return groups;
}

TensorMap YDecoder::state() {
  TensorMap state;
  for (const auto& item : module_->named_parameters()) state[item.key()] = item.value();
  return state;
}

void YDecoder::weights_updated() { module_->forget_cached_weights(); }

void YDecoder::state_changed() {
  module_->forget_cached_weights();
  codebooks_ = scaled_codebooks(image_tokenizer_.module()).to(device_);
}

std::vector<int64_t> YDecoder::encode(const std::string& text) const {
  std::vector<int64_t> ids = text_.encode(text);
  if (static_cast<int64_t>(ids.size()) <= max_text_tokens_) return ids;
  throw ConfigError("a text of " + std::to_string(ids.size()) + " tokens (\"" + text.substr(0, 40) +
                    "…\") is longer than model." + name_ +
                    ".max_text_tokens = " + std::to_string(max_text_tokens_) + "; raise it");
}

std::vector<int64_t> YDecoder::encode_cut(const std::string& text) const {
  // No token of a text stands for more bytes than this, on average, so a book costs no more than
  // its first page.
  constexpr int64_t kBytesPerToken = 64;
  const auto bytes = static_cast<size_t>(kBytesPerToken * max_text_tokens_);
  std::vector<int64_t> ids = text_.encode(text.size() <= bytes ? text : text.substr(0, bytes));
  if (static_cast<int64_t>(ids.size()) <= max_text_tokens_) return ids;
  if (texts_cut_++ == 0) {
    spdlog::warn("a text of more than model.{}.max_text_tokens = {} tokens is cut to that: \"{}…\"",
                 name_, max_text_tokens_, replace_invalid_utf8(text.substr(0, 40)));
  }
  ids.resize(static_cast<size_t>(max_text_tokens_));
  return ids;
}

TokenRows YDecoder::to_device(TokenRows rows) const {
  for (at::Tensor* t : {&rows.text_ids, &rows.positions, &rows.sources}) *t = t->to(device_);
  return rows;
}

void YDecoder::set_image_inputs(TokenRows& rows, const at::Tensor& codes,
                                const at::Tensor& semantics) const {
  rows.code_sums = sum_codes(codebooks_, codes).select(0, codebooks_.size(0) - 1).flatten(0, 1);
  if (semantics.defined()) rows.semantics = semantics.flatten(0, 1).to(at::kFloat);
}

at::Tensor YDecoder::draw_logits(const TokenRows& rows, int64_t branch,
                                 const at::Tensor& target_rows, const at::Tensor& code_sums) {
  const at::Tensor hidden = module_->hidden(rows, branch).index_select(0, target_rows);
  return module_->depth(branch)->forward(hidden, code_sums.narrow(0, 0, code_sums.size(0) - 1));
}

void add_y_decoder(Registry& registry) {
  registry.add(ModelKind{
      .name = "y_decoder",
      .help = "A decoder in the shape of a Y over text and image codes: a shared trunk, then one "
              "branch of layers, norm and head per task (UniFork).",
      .make_settings = [] { return std::make_shared<YDecoderSettings>(); },
      .make = [](const ModelConfig& config,
                 NamedThings& things) { return std::make_unique<YDecoder>(config, things); },
      .branches =
          [](const ModelConfig& config) {
            std::vector<BranchInfo> branches;
            for (const auto& branch : settings_as<YDecoderSettings>(config.settings).branches) {
              branches.push_back({branch.name, branch.head});
            }
            return branches;
          },
      .check_data =
          [](const RunConfig& config, const ModelConfig& model, const std::string& data,
             const std::string& asked_by) {
            const auto& settings = settings_as<YDecoderSettings>(model.settings);
            require_image_size(config, settings.image_tokenizer, data, asked_by);
          },
      .least_numbers = least_numbers});
}

}  // namespace espalier
