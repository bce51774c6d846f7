#include "trainer/checkpoint/saved_state.h"

#include <algorithm>
#include <array>

#include "trainer/errors.h"

namespace espalier {
namespace {

using nlohmann::json;

std::string stage_prefix(const StageConfig& stage) { return "model/" + stage.name + "/"; }
std::string loop_prefix(const StageConfig& stage) { return "training/" + stage.name + "/"; }

void add_with_prefix(TensorMap& all, const std::string& prefix, const TensorMap& state) {
  for (const auto& [name, tensor] : state) all[prefix + name] = tensor;
}

TensorMap without_prefix(const TensorMap& all, const std::string& prefix) {
  TensorMap found;
  for (auto it = all.lower_bound(prefix); it != all.end() && it->first.starts_with(prefix); ++it) {
    found[it->first.substr(prefix.size())] = it->second;
  }
  return found;
}

bool shapes_training(const std::string& key) {
  constexpr std::array kFree = {"run.", "checkpoint.", "log.", "evaluation.", "compute."};
  return std::none_of(kFree.begin(), kFree.end(),
                      [&](const char* prefix) { return key.starts_with(prefix); });
}

}  // namespace

json state_json(const RunPosition& position, const RunConfig& config) {
  const auto index = static_cast<size_t>(position.stage_index);
  json steps = json::array();
  for (const StageConfig& stage : config.stages) steps.push_back(stage.steps);
  return {{"stage_index", position.stage_index},           {"steps_of_stages", steps},
          {"stage", config.stages.at(index).name},         {"stage_step", position.stage_step},
          {"is_complete", position.is_complete},           {"bad_steps", position.bad_steps},
          {"data_fingerprint", position.data_fingerprint}, {"settings", config.values}};
}

RunPosition read_position(const LoadedCheckpoint& checkpoint, const RunConfig& config) {
  const json& state = checkpoint.state;
  const RunPosition position{state.at("stage_index"), state.at("stage_step"),
                             state.at("is_complete"), state.at("bad_steps"),
                             state.at("data_fingerprint")};
  const std::string name = state.at("stage");
  const auto index = static_cast<size_t>(position.stage_index);
  if (index >= config.stages.size() || config.stages[index].name != name) {
    const std::string here =
        index < config.stages.size() ? "\"" + config.stages[index].name + "\"" : "nothing";
    throw ConfigError("checkpoint " + checkpoint.path + " was made in stage " +
                      std::to_string(index + 1) + " \"" + name + "\", where this config has " +
                      here + "; use the config of that run, or another run.directory");
  }
  // Steps count on from stage to stage, and a finished stage has no optimizer left to go on with.
  const json& steps = state.at("steps_of_stages");
  for (size_t i = 0; i < index + (position.is_complete ? 1 : 0); ++i) {
    if (steps.at(i) == config.stages[i].steps) continue;
    const std::string key = "stage." + config.stages[i].name + ".steps";
    throw ConfigError("checkpoint " + checkpoint.path + ": its stage " + config.stages[i].name +
                      " was finished after " + steps.at(i).dump() + " steps, and " + key +
                      " is now " + std::to_string(config.stages[i].steps) + "; set it back, or " +
                      "start anew in another run.directory");
  }
  return position;
}

std::vector<std::string> changed_settings(const LoadedCheckpoint& checkpoint,
                                          const RunConfig& config) {
  std::vector<std::string> changes;
  const json before = checkpoint.state.value("settings", json::object());
  for (const auto& [key, value] : config.values.items()) {
    if (!shapes_training(key) || !before.contains(key) || before.at(key) == value) continue;
    changes.push_back(key + ": " + before.at(key).dump() + " -> " + value.dump());
  }
  return changes;
}

void add_stage_state(TensorMap& all, const StageConfig& stage, const TensorMap& state) {
  add_with_prefix(all, stage_prefix(stage), state);
}

void add_loop_state(TensorMap& all, const StageConfig& stage, const TensorMap& state) {
  add_with_prefix(all, loop_prefix(stage), state);
}

void restore_stage(const LoadedCheckpoint& checkpoint, const StageConfig& config, Stage& stage) {
  copy_tensors(without_prefix(checkpoint.tensors, stage_prefix(config)), stage.state(),
               "checkpoint " + checkpoint.path + ", stage " + config.name);
  stage.state_changed();
}

void restore_loop(const LoadedCheckpoint& checkpoint, const StageConfig& config,
                  const TensorMap& state) {
  copy_tensors(without_prefix(checkpoint.tensors, loop_prefix(config)), state,
               "checkpoint " + checkpoint.path + ", optimizer of stage " + config.name);
}

void restore_average(const LoadedCheckpoint& checkpoint, const StageConfig& config, Stage& stage) {
  const TensorMap averages = without_prefix(checkpoint.tensors, loop_prefix(config) + "average/");
  TensorMap targets;
  for (const auto& [name, tensor] : stage.state()) {
    if (averages.contains(name)) targets[name] = tensor;
  }
  if (targets.empty()) return;
  copy_tensors(averages, targets, "checkpoint " + checkpoint.path + ", averages of " + config.name);
  stage.state_changed();
}

}  // namespace espalier
