#include "trainer/models/y_decoder.h"

#include <filesystem>

#include <spdlog/spdlog.h>

#include "data/text/utf8.h"
#include "models/hugging_face/decoder_names.h"
#include "models/hugging_face/weight_folder.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/errors.h"
#include "trainer/host/collective_text.h"
#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/models/seeded_start.h"
#include "trainer/named/named_things.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

YModelOptions module_options(const YDecoderSettings& settings, const NamedThings& things,
                             const std::string& where, const ImageTokenizerOptions& image,
                             const TextVocabulary& text) {
  YModelOptions o = settings.resolve(where, kept_backbone(things.config(), where));
  settings.apply_image_sizes(image, o);
  if (o.vocabulary_size == 0) o.vocabulary_size = text.size();
  if (o.vocabulary_size < text.size()) {
    throw ConfigError(where + ": the text tokenizer \"" + settings.text + "\" has " +
                      std::to_string(text.size()) + " tokens, the embedding " +
                      std::to_string(o.vocabulary_size) + " rows" +
                      (settings.backbone.empty()
                           ? "; raise " + where + ".vocabulary_size"
                           : ", as " + settings.backbone +
                                 "/config.json "
                                 "says in vocab_size; use the tokenizer of that "
                                 "folder"));
  }
  return o;
}

// Collective. The run keeps what says the sizes of its weights, so that it can be asked without the
// backbone.
void keep_backbone_config(NamedThings& things, const std::string& backbone,
                          const std::string& kept) {
  namespace fs = std::filesystem;
  on_rank_0(things.comm(), [&] {
    if (fs::is_directory(things.config().directory) && !fs::exists(kept + "/config.json")) {
      fs::create_directories(kept);
      replace_durably(kept + "/config.json", read_text_file(backbone + "/config.json"));
    }
    return std::string();
  });
}

}  // namespace

std::string branch_group(const std::string& branch) { return "branch." + branch; }

YDecoder::YDecoder(const ModelConfig& config, NamedThings& things)
    : name_(config.name),
      image_tokenizer_name_(settings_as<YDecoderSettings>(config.settings).image_tokenizer),
      device_(things.device()),
      image_tokenizer_(things.model_as<ResidualImageTokenizer>(
          image_tokenizer_name_, "model." + config.name + ".image_tokenizer")),
      text_(things.text(settings_as<YDecoderSettings>(config.settings).text)),
      max_text_tokens_(settings_as<YDecoderSettings>(config.settings).max_text_tokens),
      max_pictures_(settings_as<YDecoderSettings>(config.settings).max_pictures) {
  const auto& settings = settings_as<YDecoderSettings>(config.settings);
  const std::string where = "model." + config.name;
  {
    const SeededStart seeded(static_cast<uint64_t>(things.config().seed));
    module_ = YModel(module_options(settings, things, where, image_tokenizer_.options(), text_));
  }
  if (!settings.backbone.empty() && things.is_for_training()) {
    WeightFolder weights(settings.backbone);
    load_decoder(weights, module_);
    keep_backbone_config(things, settings.backbone, kept_backbone(things.config(), where));
  }
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

void YDecoder::note_pictures_cut() const {
  if (were_pictures_cut_.exchange(true)) return;
  spdlog::warn(
      "of a conversation with more than model.{}.max_pictures = {} pictures the last ones "
      "are read",
      name_, max_pictures_);
}

TokenRows YDecoder::to_device(TokenRows rows) const {
  for (at::Tensor* t : {&rows.text_ids, &rows.positions, &rows.pictures, &rows.sources}) {
    if (t->defined()) *t = t->to(device_);
  }
  return rows;
}

void YDecoder::set_image_inputs(TokenRows& rows, const at::Tensor& codes,
                                const at::Tensor& semantics) const {
  const at::Tensor places = rows.pictures * codes.size(1) + rows.positions;
  const auto of_rows = [&](const at::Tensor& all) {
    return all.flatten(0, 1).index_select(0, places);
  };
  rows.code_sums = of_rows(sum_codes(codebooks_, codes).select(0, codebooks_.size(0) - 1));
  if (semantics.defined()) rows.semantics = of_rows(semantics).to(at::kFloat);
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
      .least_numbers =
          [](const ModelConfig& model) {
            const auto& settings = settings_as<YDecoderSettings>(model.settings);
            return least_numbers(settings.resolve("model." + model.name, ""));
          }});
}

}  // namespace espalier
