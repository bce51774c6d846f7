#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "data/episodes/episode_index.h"

namespace espalier {

struct EpisodeTaskStatistics {
  int64_t episodes = 0;
  int64_t successes = 0;
  int64_t steps = 0;
  int64_t min_steps = 0;
  int64_t max_steps = 0;
  int64_t instructions = 0;  // distinct
};

// What `espalier data inspect` prints about an episode data set.
struct EpisodeStatistics {
  std::string fingerprint;
  int64_t shard_bytes = 0;
  std::map<std::string, std::map<std::string, EpisodeTaskStatistics>> splits;  // by split, by task
  int64_t bad_episodes = 0;
  int64_t bad_shards = 0;                 // of another SHA-256 than the index says
  std::vector<std::string> bad_messages;  // the first 100
};

// Checks the SHA-256 of every shard, reads every episode once, and compares the index's words with
// those of the training instructions. The first thing that is wrong throws DataError; with
// `skip_bad` bad shards and episodes are counted instead.
EpisodeStatistics inspect_episodes(const EpisodeIndex& index, bool skip_bad);

nlohmann::json to_json(const EpisodeIndex& index, const EpisodeStatistics& statistics);

// The lines for a person, the last of them a table.
std::string describe(const EpisodeIndex& index, const EpisodeStatistics& statistics);

}  // namespace espalier
