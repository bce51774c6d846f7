#include "trainer/forward/exported_decoder.h"

#include <filesystem>

#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include "models/errors.h"
#include "models/hugging_face/decoder_config.h"
#include "trainer/config/run_config.h"
#include "trainer/errors.h"
#include "trainer/export/run_export.h"
#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/models/y_decoder_settings.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

using nlohmann::json;

// config.json of an export; every complaint names it.
class ExportConfig {
 public:
  explicit ExportConfig(const std::string& folder)
      : folder_(folder), path_(folder + "/config.json"), values_(read_config_json(folder)) {
    if (values_.value("format", json()) != kExportFormat) {
      refuse("format", values_.value("format", json()), "\"" + std::string(kExportFormat) + "\"");
    }
    models_ = values_.value("models", json());
    if (!models_.is_object()) refuse("models", models_, "the settings of each model");
  }

  const std::string& folder() const { return folder_; }
  const std::string& path() const { return path_; }

  [[noreturn]] void refuse(const std::string& key, const json& got,
                           const std::string& expected) const {
    throw WeightsError(path_ + ": " + key + " = " + (got.is_null() ? "(missing)" : got.dump()) +
                       ", expected " + expected);
  }

  std::string name_of_decoder() const {
    json found = json::array();
    for (const auto& [name, model] : models_.items()) {
      if (model.is_object() && model.value("kind", json()) == "y_decoder") found.push_back(name);
    }
    if (found.size() != 1) refuse("models of kind y_decoder", found, "exactly one");
    return found[0];
  }

  ModelConfig model(const std::string& name, const std::string& kind) const {
    const json settings = models_.value(name, json());
    const std::string key = "models." + name;
    if (!settings.is_object()) refuse(key, settings, "the settings of a " + kind);
    if (settings.value("kind", json()) != kind) {
      refuse(key + ".kind", settings.value("kind", json()), "\"" + kind + "\"");
    }
    const std::string where = "model." + name;
    ModelConfig config{name, kind, registry().model(kind, where).make_settings()};
    for (const auto& [table, parts] : settings.items()) {
      if (!parts.is_object()) continue;
      for (const auto& [part, unused] : parts.items()) config.settings->add_part(table, part);
    }
    Settings declared;
    config.settings->declare(SettingsScope(declared, where + "."));
    set(declared, where + ".", settings);
    return config;
  }

 private:
  void set(Settings& declared, const std::string& prefix, const json& values) const {
    for (const auto& [name, value] : values.items()) {
      if (value.is_object()) {
        set(declared, prefix + name + ".", value);
      } else if (name != "kind") {
        declared.set(prefix + name, value, path_);
      }
    }
  }

  std::string folder_, path_;
  json values_, models_;
};

// Settings are checked as those of a run are, whose directory is the folder: an export keeps a
// backbone's config.json where a run does.
YModelOptions resolve(const ExportConfig& file, RunConfig& config, const std::string& name) {
  const std::string where = "model." + name;
  const auto& settings = settings_as<YDecoderSettings>(config.models.front().settings);
  config.directory = file.folder();
  config.texts.emplace_back().name = settings.text;
  const std::string backbone = kept_backbone(config, where) + "/config.json";
  if (!settings.backbone.empty() && !std::filesystem::exists(backbone)) {
    throw WeightsError(backbone + ": is missing, and " + file.path() + " says that models." + name +
                       " began as " + settings.backbone + "; export the run again");
  }
  try {
    for (const ModelConfig& model : config.models) {
      model.settings->validate(config, "model." + model.name);
    }
    return settings.resolve(where, kept_backbone(config, where));
  } catch (const ConfigError& error) {
    throw ConfigError(file.path() + ": " + error.what());
  }
}

// Exports have convolutions as PyTorch has them, (O, C, 3, 3); the modules want (O, 3, 3, C).
void read_weight(WeightFolder& weights, const std::string& name, const at::Tensor& place) {
  if (place.dim() != 4) return weights.read_into(name, place);
  const at::Tensor read = at::empty_like(place.detach().permute({0, 3, 1, 2}).contiguous());
  weights.read_into(name, read);
  const torch::NoGradGuard no_grad;
  place.copy_(read.permute({0, 2, 3, 1}));
}

}  // namespace

ExportedDecoder read_exported_decoder(const std::string& folder, const WeightFolder& weights) {
  const ExportConfig file(folder);
  ExportedDecoder exported;
  exported.name = file.name_of_decoder();
  RunConfig config;
  config.models.push_back(file.model(exported.name, "y_decoder"));
  const auto& settings = settings_as<YDecoderSettings>(config.models.front().settings);
  exported.tokenizer = settings.image_tokenizer;
  config.models.push_back(file.model(exported.tokenizer, "residual_image_tokenizer"));
  ImageTokenizerOptions& image = exported.image;
  image = settings_as<ResidualImageTokenizerSettings>(config.models.back().settings).options;
  image.latent_size = image.image_size / 4;
  YModelOptions& o = exported.options;
  o = resolve(file, config, exported.name);
  // What texts and images decide, as in training.
  const std::vector<int64_t>& embedding = weights.shape(exported.name + ".text_embedding.weight");
  if (o.vocabulary_size == 0 && !embedding.empty()) o.vocabulary_size = embedding.front();
  settings.apply_image_sizes(image, o);
  return exported;
}

YModel load_exported_decoder(WeightFolder& weights, const ExportedDecoder& exported) {
  YModel model(exported.options);
  const std::string prefix = exported.name + ".";
  const auto parameters = model->named_parameters();
  for (const auto& item : parameters) weights.read_into(prefix + item.key(), item.value());
  for (const std::string& name : weights.names()) {
    if (!name.starts_with(prefix) || parameters.contains(name.substr(prefix.size()))) continue;
    throw WeightsError(weights.file_of(name) + ": tensor \"" + name +
                       "\" has no place in the decoder of this config.json");
  }
  model->forget_cached_weights();
  return model;
}

ImageTokenizer load_exported_tokenizer(WeightFolder& weights, const ExportedDecoder& exported) {
  ImageTokenizer tokenizer(exported.image);
  const std::string prefix = exported.tokenizer + ".";
  weights.read_into(prefix + "quantizer.codebooks", tokenizer->codebooks());
  for (const auto& item : tokenizer->named_parameters()) {
    if (item.key().starts_with("semantic_decoder.")) {
      read_weight(weights, prefix + item.key(), item.value());
    }
  }
  tokenizer->eval();
  return tokenizer;
}

}  // namespace espalier
