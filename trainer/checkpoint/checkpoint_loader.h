#pragma once

#include <functional>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "comm/communicator.h"
#include "models/weights/safetensors.h"
#include "trainer/config/run_config.h"

namespace espalier {

struct LoadedCheckpoint {
  std::string path;
  int64_t step = 0;
  nlohmann::json state;  // state.json
  TensorMap tensors;     // of all shards, whatever the world size that wrote them
};

using CheckpointEvents = std::function<void(const nlohmann::json&)>;

// Below, `is_shared` false: only rank 0 sees the disk; the others get from it what it has read.

// Collective. What checkpoint.resume asks for; no value = from the beginning.
std::optional<LoadedCheckpoint> find_checkpoint(Communicator& comm, const RunConfig& config,
                                                const CheckpointEvents& events);

// Collective. The newest checkpoint under `root` that is read with the digests of its manifest.
// Damaged ones are renamed, reported to `events` (rank 0) and passed over. Nothing there = no
// value; only damaged ones = DoNotRequeueError with the reasons: a run never starts over silently.
// One that rank 0 finds good, and another rank cannot read = StorageError: the checkpoint stays.
std::optional<LoadedCheckpoint> load_newest_checkpoint(Communicator& comm, const std::string& root,
                                                       const CheckpointEvents& events,
                                                       bool is_shared = true);

// Collective. `path` is a checkpoint, or a run directory whose newest good one is taken. Missing =
// ConfigError; damaged = DoNotRequeueError, and nothing is renamed, as it may belong to another
// run.
LoadedCheckpoint load_checkpoint_at(Communicator& comm, const std::string& path,
                                    bool is_shared = true);

// Collective. Going on from an older step than the newest under `root`: the newer ones would be
// taken for this run's next time, so they are renamed to *.superseded-*.
void set_aside_newer(Communicator& comm, const std::string& root,
                     const LoadedCheckpoint& checkpoint);

}  // namespace espalier
