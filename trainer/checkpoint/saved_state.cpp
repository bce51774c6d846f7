#include "trainer/checkpoint/saved_state.h"

#include <set>

#include "trainer/errors.h"

namespace espalier {
namespace {

using nlohmann::json;

std::string loop_prefix(const StageConfig& stage) { return "training/" + stage.name + "/"; }

std::string first_part(const std::string& name) { return name.substr(0, name.find('/')); }

}  // namespace

json state_json(const RunPosition& position, const RunConfig& config) {
  const auto index = static_cast<size_t>(position.stage_index);
  json steps = json::array();
  for (const StageConfig& stage : config.stages) steps.push_back(stage.steps);
  return {{"stage_index", position.stage_index},
          {"steps_of_stages", steps},
          {"stage", config.stages.at(index).name},
          {"stage_step", position.stage_step},
          {"is_complete", position.is_complete},
          {"bad_steps", position.bad_steps},
          {"data_fingerprint", position.data_fingerprint},
          {"settings", config.values},
          {"losses", position.losses},
          {"best", position.best}};
}

RunPosition read_position(const LoadedCheckpoint& checkpoint, const RunConfig& config) {
  const json& state = checkpoint.state;
  const RunPosition position{.stage_index = state.at("stage_index"),
                             .stage_step = state.at("stage_step"),
                             .is_complete = state.at("is_complete"),
                             .bad_steps = state.at("bad_steps"),
                             .data_fingerprint = state.at("data_fingerprint"),
                             .losses = state.value("losses", json()),
                             .best = state.value("best", json())};
  const std::string name = state.at("stage");
  const auto index = static_cast<size_t>(position.stage_index);
  if (index >= config.stages.size() || config.stages[index].name != name) {
    const std::string here =
        index < config.stages.size() ? "\"" + config.stages[index].name + "\"" : "nothing";
    throw ConfigError("checkpoint " + checkpoint.path + " was made in stage " +
                      std::to_string(index + 1) + " \"" + name + "\", where this config has " +
                      here + "; use the config of that run, or another run.directory");
  }
  return position;
}

RunPosition read_position_to_train(const LoadedCheckpoint& checkpoint, const RunConfig& config,
                                   bool extends) {
  RunPosition position = read_position(checkpoint, config);
  const auto index = static_cast<size_t>(position.stage_index);
  // Steps count on from stage to stage, and a finished stage has no optimizer left to go on with.
  const json& steps = checkpoint.state.at("steps_of_stages");
  for (size_t i = 0; i < index + (position.is_complete ? 1 : 0); ++i) {
    if (steps.at(i) == config.stages[i].steps) continue;
    if (extends && i == index && steps.at(i) < config.stages[i].steps) {
      position.is_complete = false;
      position.is_extended = true;
      continue;
    }
    const std::string key = "stage." + config.stages[i].name + ".steps";
    throw ConfigError("checkpoint " + checkpoint.path + ": its stage " + config.stages[i].name +
                      " was finished after " + steps.at(i).dump() + " steps, and " + key +
                      " is now " + std::to_string(config.stages[i].steps) + "; set it back, or " +
                      "start anew in another run.directory");
  }
  return position;
}

void add_loop_state(TensorMap& all, const StageConfig& stage, const TensorMap& state) {
  for (const auto& [name, tensor] : state) all[loop_prefix(stage) + name] = tensor;
}

TensorMap below(const TensorMap& all, const std::string& prefix) {
  TensorMap found;
  for (auto it = all.lower_bound(prefix); it != all.end() && it->first.starts_with(prefix); ++it) {
    found[it->first.substr(prefix.size())] = it->second;
  }
  return found;
}

void restore_models(const LoadedCheckpoint& checkpoint, NamedThings& things) {
  std::set<std::string> names;
  for (const auto& [name, tensor] : below(checkpoint.tensors, "model/")) {
    names.insert(first_part(name));
  }
  for (const ModelConfig& model : things.config().models) {  // those of the config, in its order
    if (!names.contains(model.name)) continue;
    copy_tensors(below(checkpoint.tensors, model_prefix(model.name)),
                 things.model(model.name).state(),
                 "checkpoint " + checkpoint.path + ", model " + model.name);
    things.model_changed(model.name);
  }
}

void restore_objectives(const LoadedCheckpoint& checkpoint, Stage& stage) {
  const std::string& model = stage.config().trains;
  const TensorMap live = stage.state();
  for (const ObjectiveConfig& objective : stage.config().objectives) {
    const std::string prefix = objective_prefix(model, objective.name);
    copy_tensors(below(checkpoint.tensors, prefix), below(live, prefix),
                 "checkpoint " + checkpoint.path + ", objective " + objective.name);
  }
  stage.state_changed();
}

void restore_loop(const LoadedCheckpoint& checkpoint, const StageConfig& config,
                  const TensorMap& state) {
  copy_tensors(below(checkpoint.tensors, loop_prefix(config)), state,
               "checkpoint " + checkpoint.path + ", optimizer of stage " + config.name);
}

void inherit_objectives(const TensorMap& earlier, Stage& stage) {
  // Parameters, frozen ones too; not what a stage derives from its own data, such as means.
  std::vector<std::string> names = stage.parameter_names();
  names.insert(names.end(), stage.frozen_names().begin(), stage.frozen_names().end());
  const TensorMap state = stage.state();
  TensorMap from, to;
  for (const std::string& name : names) {
    const auto found = earlier.find(name);
    if (found == earlier.end()) continue;
    from[name] = found->second;
    to[name] = state.at(name);
  }
  if (to.empty()) return;
  copy_tensors(from, to, "objectives of an earlier stage, for stage " + stage.config().name);
  stage.state_changed();
}

TensorMap best_weights(const LoadedCheckpoint& checkpoint) {
  TensorMap weights;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (!name.starts_with("training/")) weights[name] = tensor;
  }
  const std::string stage = checkpoint.state.at("stage");
  for (const auto& [name, average] : below(checkpoint.tensors, "training/" + stage + "/average/")) {
    weights[name] = average;
  }
  return weights;
}

void restore_average(const LoadedCheckpoint& checkpoint, const StageConfig& config,
                     NamedThings& things, Stage& stage) {
  const TensorMap averages = below(checkpoint.tensors, loop_prefix(config) + "average/");
  TensorMap targets;
  for (const auto& [name, tensor] : stage.state()) {
    if (averages.contains(name)) targets[name] = tensor;
  }
  if (targets.empty()) return;
  copy_tensors(averages, targets, "checkpoint " + checkpoint.path + ", averages of " + config.name);
  things.model_changed(config.trains);
  stage.state_changed();
}

}  // namespace espalier
