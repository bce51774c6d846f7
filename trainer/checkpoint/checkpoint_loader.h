#pragma once

#include <functional>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "comm/communicator.h"
#include "models/weights/safetensors.h"

namespace espalier {

struct LoadedCheckpoint {
  std::string path;
  int64_t step = 0;
  nlohmann::json state;  // state.json
  TensorMap tensors;     // of all shards, whatever the world size that wrote them
};

// Collective. The newest checkpoint under `root` that every rank reads with the digests of its
// manifest. Damaged ones are renamed, reported to `events` (rank 0) and passed over. Nothing there
// = no value; only damaged ones = DoNotRequeueError with the reasons: a run never starts over
// silently.
std::optional<LoadedCheckpoint> load_newest_checkpoint(
    Communicator& comm, const std::string& root,
    const std::function<void(const nlohmann::json&)>& events);

// Collective. `path` is a checkpoint, or a run directory whose newest good one is taken. Missing =
// ConfigError; damaged = DoNotRequeueError, and nothing is renamed, as it may belong to another
// run.
LoadedCheckpoint load_checkpoint_at(Communicator& comm, const std::string& path);

// Collective. Going on from an older step than the newest under `root`: the newer ones would be
// taken for this run's next time, so they are renamed to *.superseded-*.
void set_aside_newer(Communicator& comm, const std::string& root,
                     const LoadedCheckpoint& checkpoint);

}  // namespace espalier
