#include "trainer/provenance/run_origin.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>

#include <spdlog/spdlog.h>

#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/errors.h"
#include "trainer/host/collective_text.h"
#include "trainer/named/kept_text.h"
#include "trainer/record/run_directory.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string listed(const std::vector<SettingChange>& changes) {
  std::string text;
  for (const SettingChange& change : changes) text += "\n  " + text_of(change);
  return text + "\n";
}

// ConfigError unless the run may go on from the state of its checkpoint.
void require_same_settings(const std::vector<SettingChange>& changes, const RunConfig& config,
                           const json& state, int64_t step, bool extends) {
  const auto beyond = beyond_extension(changes, config, state.value("stage_index", int64_t{0}));
  if (changes.empty() || (extends && beyond.empty())) return;
  const std::string start = "the weights in " + config.directory + " (step " +
                            std::to_string(step) + ") were made with other settings:";
  const std::string fork = "make a new run of its weights: --set run.directory=… --fork-from " +
                           config.directory + "@" + std::to_string(step);
  if (beyond.empty()) {
    throw ConfigError(start + listed(changes) + "--extend goes on with these; or set them back, " +
                      "or " + fork);
  }
  throw ConfigError(start + listed(extends ? beyond : changes) + "set them back, choose another " +
                    "run.directory, or " + fork +
                    (extends ? ". --extend takes more steps of the last stage that was begun, "
                               "of later ones, and new stages"
                             : ""));
}

bool is_own(const RunConfig& config, const std::string& checkpoint) {
  std::error_code missing;
  return fs::equivalent(fs::path(checkpoint).parent_path(),
                        RunDirectory::checkpoints(config.directory), missing);
}

std::string canonical_run(const std::string& run) {
  const fs::path path = fs::weakly_canonical(run);
  return (path.has_filename() ? path : path.parent_path()).string();
}

bool is_forked_from(const RunConfig& config, const std::string& run) {
  const json parent = parent_of(config.directory);
  return parent.is_object() && parent.value("run", "") == canonical_run(run);
}

// A directory with checkpoints goes on from them, if it was forked from the same run before: that
// is what a relaunch of the same command finds.
void require_fork_of_same(const RunConfig& config, const std::string& fork_from) {
  if (config.checkpoint.resume != "auto") {
    throw ConfigError("--fork-from and --resume each say what to begin with; give one of them");
  }
  const auto own = list_checkpoints(RunDirectory::checkpoints(config.directory));
  if (own.empty() || is_forked_from(config, parse_fork_source(fork_from).run)) return;
  throw ConfigError("--fork-from " + fork_from + ": " + config.directory +
                    " already holds checkpoints up to step " + std::to_string(own.back().step) +
                    "; a fork begins in a directory of its own: --set run.directory=…");
}

std::set<std::string> models_in(const LoadedCheckpoint& checkpoint) {
  std::set<std::string> names;
  for (const auto& [name, tensor] : below(checkpoint.tensors, "model/")) {
    names.insert(name.substr(0, name.find('/')));
  }
  return names;
}

LoadedCheckpoint load_parent(Communicator& comm, const RunConfig& config,
                             const std::string& fork_from) {
  const ForkSource source = parse_fork_source(fork_from);
  const std::string path =
      on_rank_0(comm, [&] { return chosen_checkpoint(source.run, source.checkpoint); });
  LoadedCheckpoint parent = load_checkpoint_at(comm, path, config.checkpoint.shared);
  const std::set<std::string> names = models_in(parent);
  const bool any =
      std::any_of(config.models.begin(), config.models.end(),
                  [&](const ModelConfig& model) { return names.contains(model.name); });
  if (any) return parent;
  std::string there;
  for (const auto& name : names) there += (there.empty() ? "" : ", ") + name;
  throw ConfigError("--fork-from " + fork_from + ": no model of this config has the name of one " +
                    "there; " + path + " has " + there);
}

// The parent's text tokenizers that the models read.
void inherit_texts(Communicator& comm, const RunConfig& config, const std::set<std::string>& models,
                   const std::string& parent) {
  on_rank_0(comm, [&] {
    const std::string folder = RunDirectory::inherited(config.directory);
    for (const auto& model : models) {
      const std::string text = config.values.value("model." + model + ".text", std::string());
      const std::string kept = text.empty() ? "" : kept_text_path(parent, text);
      if (kept.empty()) continue;
      fs::create_directories(folder);
      replace_durably(folder + kept.substr(parent.size()), read_text_file(kept));
    }
    return std::string();
  });
}

json parent_json(const LoadedCheckpoint& parent, const std::string& fork_from) {
  return {{"run", canonical_run(parse_fork_source(fork_from).run)},
          {"step", parent.step},
          {"commit", parent.state.value("commit", "unknown")},
          {"config_digest", config_digest(parent.state.value("settings", json::object()))}};
}

}  // namespace

json RunOrigin::place() const {
  if (checkpoint) return {{"checkpoint", checkpoint->path}};
  return parent ? json{{"parent", parent->path}} : json::object();
}

void RunOrigin::say() const {
  if (checkpoint) spdlog::info("going on from {}", checkpoint->path);
  if (parent) spdlog::info("beginning with the weights of {}", parent->path);
  for (const SettingChange& change : changes) {
    spdlog::warn("setting changed since the checkpoint: {}", text_of(change));
  }
}

ForkSource parse_fork_source(const std::string& text) {
  const size_t at = text.rfind('@');
  if (at == std::string::npos || fs::exists(text)) return {text, {}};
  ForkSource source{text.substr(0, at), {}};
  const std::string which = text.substr(at + 1);
  if (which == "best") {
    source.checkpoint.is_best = true;
    return source;
  }
  const char* const end = which.data() + which.size();
  const auto [rest, error] = std::from_chars(which.data(), end, source.checkpoint.step);
  if (error == std::errc() && rest == end && source.checkpoint.step >= 0) return source;
  throw ConfigError("--fork-from " + text + ": \"" + which + "\" is no step; write RUN, RUN@120 " +
                    "or RUN@best");
}

RunOrigin find_origin(Communicator& comm, const RunConfig& config, const RunOptions& options,
                      const CheckpointEvents& events) {
  RunOrigin origin;
  if (!options.fork_from.empty()) {
    on_rank_0(comm, [&] {
      require_fork_of_same(config, options.fork_from);
      return std::string();
    });
  }
  origin.checkpoint = find_checkpoint(comm, config, events);
  if (!origin.checkpoint) {
    if (options.fork_from.empty()) return origin;
    origin.parent = load_parent(comm, config, options.fork_from);
    return origin;
  }
  const LoadedCheckpoint& checkpoint = *origin.checkpoint;
  origin.changes = result_changes(checkpoint.state.value("settings", json::object()), config);
  on_rank_0(comm, [&] {
    if (is_own(config, checkpoint.path)) {
      require_same_settings(origin.changes, config, checkpoint.state, checkpoint.step,
                            options.extends);
    }
    return std::string();
  });
  return origin;
}

void check_origin(const RunConfig& config, bool extends, const std::string& fork_from) {
  if (!fork_from.empty()) {
    require_fork_of_same(config, fork_from);
    const ForkSource source = parse_fork_source(fork_from);
    const auto own = list_checkpoints(RunDirectory::checkpoints(config.directory));
    if (own.empty()) chosen_checkpoint(source.run, source.checkpoint);
  }
  if (config.checkpoint.resume != "auto") return;
  const auto kept = list_checkpoints(RunDirectory::checkpoints(config.directory));
  if (kept.empty()) return;
  const std::string path = kept.back().path + "/state.json";
  // A damaged checkpoint is found, and set aside, when the ranks load it.
  const json state = fs::exists(path) ? json::parse(read_text_file(path), nullptr, false) : json();
  if (!state.is_object()) return;
  const auto changes = result_changes(state.value("settings", json::object()), config);
  require_same_settings(changes, config, state, kept.back().step, extends);
}

BegunWith begin_with_weights(const RunOrigin& origin, const RunOptions& options,
                             NamedThings& things) {
  if (!origin.checkpoint && !origin.parent) return {};
  LoadedCheckpoint from = origin.checkpoint ? *origin.checkpoint : *origin.parent;
  BegunWith begun{{}, models_in(from)};
  if (origin.parent) {
    inherit_texts(things.comm(), things.config(), begun.models,
                  parse_fork_source(options.fork_from).run);
    from.tensors = best_weights(from);
  }
  restore_models(from, things);
  for (const auto& [name, tensor] : from.tensors) {
    if (name.starts_with("objective/")) begun.of_objectives[name] = tensor;
  }
  std::erase_if(begun.models, [&](const std::string& name) {
    const auto& models = things.config().models;
    return std::none_of(models.begin(), models.end(),
                        [&](const ModelConfig& model) { return model.name == name; });
  });
  return begun;
}

HistoryEntry history_entry(const RunOrigin& origin, const RunPosition& position,
                           const RunOptions& options, int generation) {
  HistoryEntry entry{.generation = generation,
                     .step = origin.checkpoint ? origin.checkpoint->step : 0,
                     .commit = options.commit,
                     .changes = to_json(origin.changes)};
  if (origin.parent) {
    entry.event = "forked";
    entry.parent = parent_json(*origin.parent, options.fork_from);
  } else if (position.is_extended || !origin.changes.empty()) {
    entry.event = "extended";
  }
  return entry;
}

void record_start(Communicator& comm, const RunConfig& config, const HistoryEntry& entry) {
  on_rank_0(comm, [&] {
    append_history(config.directory, config.resolved, config_digest(config.values), entry);
    const std::string path = config.directory + "/config.toml";
    const bool is_there = fs::exists(path) && read_text_file(path) == config.resolved;
    if (!is_there) replace_durably(path, config.resolved);
    return std::string();
  });
}

}  // namespace espalier
