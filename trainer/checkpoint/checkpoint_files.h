#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "trainer/checkpoint/durable_file.h"

namespace espalier {

// A committed checkpoint is a directory `step-0000000800` with safetensors shards, state.json and
// manifest.json; one that is being written is called `step-0000000800.tmp-…`.
struct CheckpointDirectory {
  int64_t step = 0;
  std::string path;
};

struct Manifest {
  int64_t step = 0;
  int generation = 0;
  int world_size = 0;
  std::map<std::string, FileDigest> files;  // all but the manifest itself
};

std::string checkpoint_name(int64_t step);

// Committed ones under `root`, oldest first; empty when there is no such directory.
std::vector<CheckpointDirectory> list_checkpoints(const std::string& root);

// The text carries a digest of itself, and is refused when any byte of it differs.
std::string manifest_text(const Manifest& manifest);
Manifest parse_manifest(const std::string& text, const std::string& path);  // throws StorageError

// Reads everything: manifest, sizes, digests. Returns what is wrong, "" when it is good.
std::string find_damage(const std::string& path);

// Renames to `….corrupt-<time>`, out of the way of loading and retention. Returns the new name.
std::string quarantine(const std::string& path);

// "best" under `root`: a link to the checkpoint whose chosen metric was the best. Replaced in one
// step, so that there always is one.
void mark_best(const std::string& root, const std::string& checkpoint);
std::string best_checkpoint(const std::string& root);  // name; "" = none

// Removes committed checkpoints, but for the best, that are older than the `keep` newest that
// verify; `verified` holds the paths already checked by this process and is added to. Damaged ones
// met on the way are quarantined. Returns one JSON event for each removed or quarantined one.
std::vector<nlohmann::json> apply_retention(const std::string& root, int64_t keep,
                                            std::set<std::string>& verified);

// What an interrupted save or removal left.
void remove_temporaries(const std::string& root);

}  // namespace espalier
