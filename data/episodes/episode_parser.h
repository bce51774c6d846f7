#pragma once

#include "data/episodes/episode_index.h"
#include "data/episodes/episode_reader.h"
#include "data/shards/tar_index.h"

namespace espalier {

// Reads the members of one episode out of its shard and checks each against the index. Errors name
// the member and its byte, not yet shard and episode; EpisodeReader adds those.
Episode parse_episode(const EpisodeIndex& index, SeedRange seeds, const EpisodeEntry& entry,
                      const ReadOnlyFile& file);

}  // namespace espalier
