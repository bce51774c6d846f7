#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "trainer/checkpoint/checkpoint_choice.h"
#include "trainer/checkpoint/checkpoint_loader.h"
#include "trainer/checkpoint/saved_state.h"
#include "trainer/named/named_things.h"
#include "trainer/provenance/run_history.h"
#include "trainer/provenance/settings_change.h"
#include "trainer/run.h"

namespace espalier {

// What a training begins with.
struct RunOrigin {
  std::optional<LoadedCheckpoint> checkpoint;  // the run goes on from it
  std::optional<LoadedCheckpoint> parent;      // of another run: its weights are taken over
  std::vector<SettingChange> changes;          // since the checkpoint, of what shapes the result

  nlohmann::json place() const;  // {"checkpoint": PATH} or {"parent": PATH}
  void say() const;              // in the log
};

// "RUN" or "RUN@STEP", as --fork-from has it.
struct ForkSource {
  std::string run;
  CheckpointChoice checkpoint;
};
ForkSource parse_fork_source(const std::string& text);

// Collective. Finds the checkpoint that checkpoint.resume or --fork-from ask for. ConfigError when
// the run's own checkpoint was made with other settings, unless --extend allows all of them.
RunOrigin find_origin(Communicator& comm, const RunConfig& config, const RunOptions& options,
                      const CheckpointEvents& events);

// The same refusals from what lies in the run directory, before any rank is started.
void check_origin(const RunConfig& config, bool extends, const std::string& fork_from);

// What the models of a run were given before its first step.
struct BegunWith {
  TensorMap of_objectives;       // of their own, for stages with objectives of the same names
  std::set<std::string> models;  // whose first weights are not those that the seed gives
};

// Collective. Copies the weights of the checkpoint, or of the parent (averages where it has any),
// into the models of the same names. With a parent, text tokenizers that these models read become
// the parent's.
BegunWith begin_with_weights(const RunOrigin& origin, const RunOptions& options,
                             NamedThings& things);

// Collective. config.toml, and the history where this start is not like the one before. Nothing is
// written where nothing changed, so that a run goes on also on a full disk. Rank 0 writes, and
// every rank throws its StorageError.
void record_start(Communicator& comm, const RunConfig& config, const HistoryEntry& entry);

HistoryEntry history_entry(const RunOrigin& origin, const RunPosition& position,
                           const RunOptions& options, int generation);

}  // namespace espalier
