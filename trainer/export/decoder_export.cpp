#include "trainer/export/decoder_export.h"

#include <filesystem>

#include <nlohmann/json.hpp>

#include "comm/transport/single_communicator.h"
#include "models/errors.h"
#include "models/hugging_face/decoder_config.h"
#include "models/hugging_face/decoder_names.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/checkpoint/saved_state.h"
#include "trainer/errors.h"
#include "trainer/export/export_folder.h"
#include "trainer/export/weight_shards.h"
#include "trainer/models/y_decoder_settings.h"
#include "trainer/named/kept_text.h"
#include "trainer/record/json_text.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

struct ChosenBranch {
  const ModelConfig* model = nullptr;
  int64_t index = 0;
};

// "understanding" or "y.understanding".
ChosenBranch choose_branch(const RunConfig& config, const std::string& wanted) {
  ChosenBranch chosen;
  std::string known;
  int found = 0;
  for (const ModelConfig& model : config.models) {
    if (model.kind != "y_decoder") continue;
    const auto& branches = settings_as<YDecoderSettings>(model.settings).branches;
    for (size_t i = 0; i < branches.size(); ++i) {
      if (branches[i].head != "text") continue;
      const std::string full = model.name + "." + branches[i].name;
      known += (known.empty() ? "" : ", ") + full;
      if (wanted != branches[i].name && wanted != full) continue;
      chosen = {&model, static_cast<int64_t>(i)};
      ++found;
    }
  }
  if (found == 1) return chosen;
  throw ConfigError("--decoder " + wanted + (found == 0 ? ": is no text branch" : ": is several") +
                    " of this run; it has " + (known.empty() ? "none" : known));
}

// Sizes that texts and images decided are those of the tensors.
YModelOptions options_of(const ModelConfig& model, const RunConfig& config,
                         const TensorMap& weights) {
  const std::string where = "model." + model.name;
  const auto& settings = settings_as<YDecoderSettings>(model.settings);
  YModelOptions o = settings.resolve(where, kept_backbone(config, where));
  o.vocabulary_size = weights.at(model.name + "/text_embedding.weight").size(0);
  return o;
}

int64_t longest_text(const ModelConfig& model, const RunConfig& config, const TensorMap& weights) {
  const auto& settings = settings_as<YDecoderSettings>(model.settings);
  if (settings.backbone.empty()) {
    return weights.at(model.name + "/position_embedding").size(0) + 2 * settings.max_text_tokens;
  }
  const std::string kept = kept_backbone(config, "model." + model.name);
  return read_decoder_config(fs::exists(kept) ? kept : settings.backbone).longest_sequence;
}

}  // namespace

ExportResult export_decoder(const ExportRequest& request, const std::string& branch) {
  const std::string path = chosen_checkpoint(request.run, request.checkpoint);
  RunConfig config = load_run_config(request.run + "/config.toml");
  config.directory = request.run;  // it may have moved since
  const ChosenBranch chosen = choose_branch(config, branch);
  const ModelConfig& model = *chosen.model;
  const std::string run_name = fs::canonical(request.run).filename().string();
  require_export_folder(request.to, run_name);
  const auto comm = make_single_communicator();
  const LoadedCheckpoint checkpoint = load_checkpoint_at(*comm, path);
  const TensorMap weights = model_weights(checkpoint, config, request.weights);
  if (!weights.contains(model.name + "/text_embedding.weight")) {
    throw ConfigError(path + " has no weights of model." + model.name +
                      ", which a later stage trains; choose another checkpoint with --step");
  }
  const YModelOptions options = options_of(model, config, weights);
  const DecoderConfig decoder =
      decoder_config_of(options, chosen.index, longest_text(model, config, weights));
  TensorMap tensors;
  for (const DecoderName& name : decoder_names(options, chosen.index)) {
    tensors[name.theirs] = name.part_of(weights.at(model.name + "/" + name.ours));
  }
  nlohmann::ordered_json about = decoder_config_json(decoder, "float32");
  about["format"] = kExportFormat;
  about["run"] = run_name;
  about["step"] = checkpoint.step;
  const fs::path text =
      kept_text_path(config.directory, settings_as<YDecoderSettings>(model.settings).text);
  const std::vector<TensorMap> shards = cut_into_shards(tensors, request.max_shard_bytes);
  ExportResult result{path, {}, std::ssize(tensors), bytes_of(tensors)};
  replace_folder(request.to, result.bytes, [&](const std::string& temporary) {
    result.files = write_weight_shards(temporary, shards);
    result.files.emplace_back("config.json");
    write_durably(temporary + "/config.json", about.dump(2) + "\n");
    if (text.empty()) return;
    const std::string name = "tokenizer" + text.extension().string();
    result.files.push_back(name);
    write_durably(temporary + "/" + name, read_text_file(text.string()));
  });
  return result;
}

}  // namespace espalier
