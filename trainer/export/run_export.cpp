#include "trainer/export/run_export.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

#include "comm/transport/single_communicator.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/checkpoint/saved_state.h"
#include "trainer/errors.h"
#include "trainer/export/export_folder.h"
#include "trainer/export/weight_shards.h"
#include "trainer/models/y_decoder_settings.h"
#include "trainer/named/episode_set.h"
#include "trainer/named/kept_text.h"
#include "trainer/provenance/settings_change.h"
#include "trainer/record/json_text.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const StageConfig& stage_of(const LoadedCheckpoint& checkpoint, const RunConfig& config) {
  return config.stages[static_cast<size_t>(read_position(checkpoint, config).stage_index)];
}

// Averages of models, not of objectives, are named "model/MODEL/NAME".
TensorMap averages_of(const LoadedCheckpoint& checkpoint, const StageConfig& stage) {
  return below(checkpoint.tensors, "training/" + stage.name + "/average/model/");
}

// The stage's weights are averages, and the others were let go as it finished.
bool has_averages_alone(const LoadedCheckpoint& checkpoint, const RunConfig& config) {
  return read_position(checkpoint, config).is_complete &&
         stage_of(checkpoint, config).ema_decay > 0;
}

// Settings "model.y.width" below "model.y." as {"width": …}; dots become objects.
json settings_below(const json& values, const std::string& prefix) {
  json found = json::object();
  for (const auto& [key, value] : values.items()) {
    if (!key.starts_with(prefix)) continue;
    json* place = &found;
    std::string rest = key.substr(prefix.size());
    for (size_t dot = rest.find('.'); dot != std::string::npos; dot = rest.find('.')) {
      place = &(*place)[rest.substr(0, dot)];
      rest.erase(0, dot + 1);
    }
    (*place)[rest] = value;
  }
  return found;
}

json models_json(const RunConfig& config, const TensorMap& weights) {
  std::set<std::string> names;
  for (const auto& [name, tensor] : weights) names.insert(name.substr(0, name.find('/')));
  json models = json::object();
  for (const ModelConfig& model : config.models) {
    if (!names.contains(model.name)) continue;
    json& entry = models[model.name] = settings_below(config.values, "model." + model.name + ".");
    entry["kind"] = model.kind;
  }
  return models;
}

bool has_one_decoder(const json& models) {
  return std::count_if(models.begin(), models.end(),
                       [](const json& model) { return model["kind"] == "y_decoder"; }) == 1;
}

// A tokenizer that is no JSON is a file of its own beside config.json.
json texts_json(const RunConfig& config) {
  json texts = json::object();
  for (const TextConfig& text : config.texts) {
    const fs::path path = kept_text_path(config.directory, text.name);
    if (path.empty()) continue;
    texts[text.name] = path.extension() == kBytePairExtension ? json::parse(read_text_file(path))
                                                              : json{{"file", path.filename()}};
  }
  return texts;
}

void write_text_files(const std::string& run, const json& texts, const std::string& folder,
                      std::vector<std::string>& files) {
  for (const json& text : texts) {
    if (!text.contains("file")) continue;
    files.push_back(text["file"]);
    write_durably(folder + "/" + files.back(), read_text_file(run + "/" + files.back()));
  }
}

// What says the sizes of a model that began as a backbone, at the place where the run keeps it.
void write_backbones(const RunConfig& config, const json& models, const std::string& folder,
                     std::vector<std::string>& files) {
  for (const auto& [name, unused] : models.items()) {
    const fs::path kept = kept_backbone(config, "model." + name);
    if (!fs::exists(kept / "config.json")) continue;
    const std::string copy = folder + "/" + kept.filename().string();
    fs::create_directory(copy);
    write_durably(copy + "/config.json", read_text_file(kept / "config.json"));
    sync_directory(copy);
    files.push_back(kept.filename().string() + "/config.json");
  }
}

// Of the instructions that world models read; null where the episodes are not on this machine.
json words_json(const RunConfig& config) {
  json words = json::object();
  for (const EpisodesConfig& episodes : config.episodes) {
    words[episodes.name] = json();
    if (fs::exists(episodes.path)) words[episodes.name] = open_episode_index(episodes).words;
  }
  return words;
}

json config_json(const RunConfig& config, const LoadedCheckpoint& checkpoint,
                 const TensorMap& weights, const ExportRequest& request,
                 const std::string& run_name) {
  const json models = models_json(config, weights);
  const RunPosition position = read_position(checkpoint, config);
  const bool averaged = has_averages_alone(checkpoint, config) ||
                        (request.weights != WeightChoice::kRaw &&
                         !averages_of(checkpoint, stage_of(checkpoint, config)).empty());
  json about = {{"format", kExportFormat},
                {"run", run_name},
                {"step", checkpoint.step},
                {"stage", stage_of(checkpoint, config).name},
                {"stage_step", position.stage_step},
                {"stage_is_finished", position.is_complete},
                {"weights", averaged ? "averages" : "raw"},
                {"commit", request.commit},
                {"config_digest", config_digest(config.values)},
                {"models", models},
                {"texts", texts_json(config)},
                {"words", words_json(config)},
                {"settings", config.values}};
  if (has_one_decoder(models)) about["model_type"] = kUnifiedModelType;
  return about;
}

// Convolutions are kept (O, 3, 3, C) (models/image_tokenizer/conv_blocks.h, the only ones that are
// trained); PyTorch wants (O, C, 3, 3).
at::Tensor in_pytorch_order(const at::Tensor& tensor) {
  const bool is_convolution = tensor.dim() == 4 && tensor.size(1) == 3 && tensor.size(2) == 3;
  return is_convolution ? tensor.permute({0, 3, 1, 2}).contiguous() : tensor;
}

// "tokenizer/encoder.stem.weight" -> "tokenizer.encoder.stem.weight"
TensorMap for_others(const TensorMap& weights) {
  TensorMap named;
  for (const auto& [name, tensor] : weights) {
    const size_t slash = name.find('/');
    named[name.substr(0, slash) + "." + name.substr(slash + 1)] = in_pytorch_order(tensor);
  }
  return named;
}

}  // namespace

TensorMap model_weights(const LoadedCheckpoint& checkpoint, const RunConfig& config,
                        WeightChoice choice) {
  const StageConfig& stage = stage_of(checkpoint, config);
  const TensorMap averages = averages_of(checkpoint, stage);
  const bool averages_alone = has_averages_alone(checkpoint, config);
  if (choice == WeightChoice::kRaw && averages_alone) {
    throw ConfigError(checkpoint.path + ": stage " + stage.name +
                      " is finished, and its averages are all that is left of its weights; leave "
                      "--raw out, or choose an earlier checkpoint with --step");
  }
  if (choice == WeightChoice::kAverages && averages.empty() && !averages_alone) {
    throw ConfigError(checkpoint.path + " has no averages: stage." + stage.name +
                      ".ema_decay is 0; leave --averages out");
  }
  const bool is_raw = choice == WeightChoice::kRaw;
  return below(is_raw ? checkpoint.tensors : best_weights(checkpoint), "model/");
}

ExportResult export_run(const ExportRequest& request) {
  const std::string path = chosen_checkpoint(request.run, request.checkpoint);
  RunConfig config = load_run_config(request.run + "/config.toml");
  config.directory = request.run;  // it may have moved since
  const std::string run_name = fs::canonical(request.run).filename().string();
  require_export_folder(request.to, run_name);
  const auto comm = make_single_communicator();
  const LoadedCheckpoint checkpoint = load_checkpoint_at(*comm, path);
  const TensorMap weights = model_weights(checkpoint, config, request.weights);
  const std::vector<TensorMap> shards =
      cut_into_shards(for_others(weights), request.max_shard_bytes);
  const json about = config_json(config, checkpoint, weights, request, run_name);
  ExportResult result{path, {}, std::ssize(weights), bytes_of(weights)};
  replace_folder(request.to, result.bytes, [&](const std::string& temporary) {
    result.files = write_weight_shards(temporary, shards);
    write_text_files(request.run, about["texts"], temporary, result.files);
    write_backbones(config, about["models"], temporary, result.files);
    result.files.emplace_back("config.json");
    write_durably(temporary + "/config.json", json_text(about, 2) + "\n");
  });
  return result;
}

}  // namespace espalier
