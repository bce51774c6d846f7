#include "trainer/config/run_config.h"

#include <algorithm>

#include "trainer/best_metric.h"
#include "trainer/errors.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

template <class T>
const T& named(const std::vector<T>& things, const std::string& what, const std::string& name,
               const std::string& asked_by) {
  std::string known;
  for (const T& thing : things) {
    if (thing.name == name) return thing;
    known += (known.empty() ? "" : ", ") + thing.name;
  }
  throw ConfigError(asked_by + " = \"" + name + "\": there is no [" + what + "." +
                    (name.empty() ? "NAME" : name) + "] in the config; " +
                    (known.empty() ? "none is declared" : "declared: " + known));
}

// Files of a run have names of up to some hundred letters below it.
void validate_directory(const std::string& directory) {
  constexpr size_t kLongestPath = 3072, kLongestName = 255;
  if (directory.empty()) {
    throw ConfigError("run.directory is empty; name a folder, such as run.directory = \"runs/a\"");
  }
  size_t longest = 0, name = 0;
  for (const char c : directory) longest = std::max(longest, name = c == '/' ? 0 : name + 1);
  if (directory.size() <= kLongestPath && longest <= kLongestName) return;
  throw ConfigError("run.directory is too long for a file system (" +
                    std::to_string(directory.size()) + " bytes, " + std::to_string(longest) +
                    " between slashes); choose a shorter one");
}

// What a stage or a text tokenizer learns from has something to learn from.
void require_training_data(const RunConfig& config, const std::string& data,
                           const std::string& asked_by) {
  if (!config.data_named(data, asked_by).train.empty()) return;
  throw ConfigError("data." + data + ".train is empty, and " + asked_by +
                    " learns from it; name files or folders there");
}

// A tokenizer is brought or learned: what only one of the two reads is not set for the other.
void validate_text(const RunConfig& config, const TextConfig& text) {
  const std::string where = "text." + text.name;
  const TextConfig defaults;
  if (!text.file.empty()) {
    const std::pair<const char*, bool> of_learning[] = {
        {"data", text.data != defaults.data},
        {"vocabulary_size", text.vocabulary_size != defaults.vocabulary_size},
        {"fields", text.fields != defaults.fields},
        {"frequent_fields", text.frequent_fields != defaults.frequent_fields},
        {"phrases", text.phrases != defaults.phrases}};
    for (const auto& [name, is_set] : of_learning) {
      if (!is_set) continue;
      throw ConfigError(where + ".file = \"" + text.file + "\" is used as it is, and " + where +
                        "." + name + " is of a tokenizer that is learned; remove one of the two");
    }
    return;
  }
  if (!text.end_token.empty()) {
    throw ConfigError(where + ".end_token is of a tokenizer that is brought; set " + where +
                      ".file too, or remove it");
  }
  if (text.data.empty()) {
    throw ConfigError(where + " has neither data, to learn a tokenizer from, nor file, to use one");
  }
  config.data_named(text.data, where + ".data");
  require_training_data(config, text.data, where);
}

void validate_stage(const RunConfig& config, const StageConfig& stage) {
  const std::string where = "stage." + stage.name;
  const ModelConfig& model = config.model_named(stage.trains, where + ".trains");
  if (stage.objectives.empty()) {
    throw ConfigError(where + ": no objectives; add [[stage.objectives]] with a kind: " +
                      registry().names_of_objectives());
  }
  for (const ObjectiveConfig& objective : stage.objectives) {
    const std::string of_objective = where + ".objectives." + objective.name;
    const ObjectiveKind& kind = registry().objective(objective.kind, of_objective);
    if (kind.trains != model.kind) {
      throw ConfigError(of_objective + " trains a model of kind " + kind.trains + ", but " + where +
                        ".trains = \"" + stage.trains + "\" is of kind " + model.kind);
    }
    objective.settings->validate(config, of_objective);
    if (!objective.settings->data.empty()) {
      require_training_data(config, objective.settings->data, of_objective);
    }
    const ModelKind& model_kind = registry().model(model.kind, where);
    if (model_kind.check_data && !objective.settings->data.empty()) {
      model_kind.check_data(config, model, objective.settings->data, of_objective);
    }
    const BranchInfo branch{objective.settings->branch_name(),
                            objective.settings->branch_predicts()};
    if (branch.predicts.empty()) continue;
    model_kind.check_branch(model, branch, of_objective);
  }
}

}  // namespace

const std::vector<std::string>& DataConfig::split(const std::string& which) const {
  if (which == "train") return train;
  return which == "validation" ? validation : test;
}

SquareFit DataConfig::square_fit() const {
  if (fit == "crop") return SquareFit::kCrop;
  return fit == "stretch" ? SquareFit::kStretch : SquareFit::kPad;
}

const DataConfig& RunConfig::data_named(const std::string& name,
                                        const std::string& asked_by) const {
  return named(data, "data", name, asked_by);
}
const TextConfig& RunConfig::text_named(const std::string& name,
                                        const std::string& asked_by) const {
  return named(texts, "text", name, asked_by);
}
const EpisodesConfig& RunConfig::episodes_named(const std::string& name,
                                                const std::string& asked_by) const {
  return named(episodes, "episodes", name, asked_by);
}
const TeacherConfig& RunConfig::teacher_named(const std::string& name,
                                              const std::string& asked_by) const {
  return named(teachers, "teacher", name, asked_by);
}
const ModelConfig& RunConfig::model_named(const std::string& name,
                                          const std::string& asked_by) const {
  return named(models, "model", name, asked_by);
}
const StageConfig& RunConfig::stage_named(const std::string& name) const {
  std::string known;
  for (const StageConfig& stage : stages) {
    if (stage.name == name) return stage;
    known += (known.empty() ? "" : ", ") + stage.name;
  }
  throw ConfigError("there is no stage " + name + " in this run; it has " + known);
}

void ObjectiveSettings::declare_data(SettingsScope scope) {
  scope.add("data", data, {.help = "Name of the data set it learns from."});
}

void ObjectiveSettings::validate(const RunConfig& config, const std::string& where) const {
  if (!data.empty() || !data_fields().empty()) config.data_named(data, where + ".data");
}

void validate(const RunConfig& config) {
  validate_directory(config.directory);
  if (config.stages.empty()) {
    throw ConfigError("nothing to train: add a [[stage]] with name, trains and objectives");
  }
  for (const TextConfig& text : config.texts) validate_text(config, text);
  for (const ModelConfig& model : config.models) {
    model.settings->validate(config, "model." + model.name);
  }
  for (const StageConfig& stage : config.stages) validate_stage(config, stage);
  validate_best_metric(config);
}

void derive_image_sizes(RunConfig& config) {
  constexpr int64_t kOfTextsAlone = 32;
  for (DataConfig& data : config.data) {
    if (data.image_size > 0) continue;
    std::string model_of_size;
    for (const StageConfig& stage : config.stages) {
      const ModelConfig& model = config.model_named(stage.trains, "stage." + stage.name);
      const int64_t size = model.settings->image_size(config);
      const bool is_read =
          std::any_of(stage.objectives.begin(), stage.objectives.end(),
                      [&](const ObjectiveConfig& o) { return o.settings->data == data.name; });
      if (!is_read || size == 0 || size == data.image_size) continue;
      if (data.image_size > 0) {
        throw ConfigError("data." + data.name + ": model." + model_of_size + " reads images of " +
                          std::to_string(data.image_size) + " pixels and model." + model.name +
                          " of " + std::to_string(size) +
                          " (image_size); make them equal, or name the files in a second [data.…]");
      }
      data.image_size = size;
      model_of_size = model.name;
    }
    if (data.image_size == 0) data.image_size = kOfTextsAlone;
  }
}

std::vector<std::string> fields_needed(const RunConfig& config, const std::string& data) {
  std::vector<std::string> fields;
  for (const StageConfig& stage : config.stages) {
    for (const ObjectiveConfig& objective : stage.objectives) {
      if (objective.settings->data != data) continue;
      for (const std::string& field : objective.settings->data_fields()) {
        if (std::find(fields.begin(), fields.end(), field) == fields.end()) fields.push_back(field);
      }
    }
  }
  return fields;
}

bool divides_batches(const RunConfig& config, int world_size) {
  return std::all_of(config.stages.begin(), config.stages.end(), [&](const StageConfig& stage) {
    return stage.batch_size % (stage.micro_batch_size * world_size) == 0;
  });
}

void validate_for_world(const RunConfig& config, int world_size) {
  for (const StageConfig& stage : config.stages) {
    const int64_t unit = stage.micro_batch_size * world_size;
    if (stage.batch_size % unit == 0) continue;
    const int64_t below = stage.batch_size / unit * unit;
    const std::string nearest =
        (below > 0 ? std::to_string(below) + " or " : "") + std::to_string(below + unit);
    throw ConfigError(
        "stage." + stage.name + ".batch_size = " + std::to_string(stage.batch_size) +
        " does not divide by micro_batch_size x ranks = " + std::to_string(stage.micro_batch_size) +
        " x " + std::to_string(world_size) + "; nearest right sizes: " + nearest);
  }
}

}  // namespace espalier
