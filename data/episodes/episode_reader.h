#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/episodes/episode_index.h"
#include "data/shards/tar_index.h"

namespace espalier {

// One demonstration of T = steps steps. Lists over views follow the index's order; H, W, A and S
// are the index's sizes.
struct Episode {
  std::string key;
  std::string instruction;
  std::string task;
  int64_t seed = 0;
  int64_t steps = 0;
  bool success = false;
  std::vector<std::vector<uint8_t>> frames;        // by view: T * H * W * 3; before action t
  std::vector<float> actions;                      // T * A, finite
  std::vector<float> state;                        // T * S, finite
  std::vector<std::vector<float>> depth;           // by depth view: T * H * W metres, finite, >= 0
  std::vector<std::vector<uint8_t>> segmentation;  // by segmentation view: T * H * W, 0 background
  // By trajectory view: T * (H / cell) * (W / cell) * 2 cells to the right and down, finite.
  std::vector<std::vector<float>> trajectories;
};

// The episodes of one split, in the order of the index. The constructor opens the shards and reads
// nothing of them; what an episode has in the index costs no reading either. All const methods may
// be called from any thread.
class EpisodeReader {
 public:
  // `tasks` empty: all. Throws DataError for a split or a task that the index has not, and when
  // there is no episode of them.
  EpisodeReader(EpisodeIndex index, const std::string& split,
                const std::vector<std::string>& tasks = {});

  const EpisodeIndex& index() const { return index_; }
  int64_t size() const { return std::ssize(entries_); }
  int64_t steps(int64_t i) const { return entry(i).steps; }
  const std::string& task(int64_t i) const { return entry(i).task; }
  const std::string& key(int64_t i) const { return entry(i).key; }

  // One positioned read for each tar header and each member; decodes all frames: 0.05 ms for a step
  // of BabyAI with two views of 64 x 64 pixels, on one core. Throws DataError naming shard, episode
  // and byte when anything is not as the index and the agreed form say.
  Episode read(int64_t i) const;

 private:
  struct Place {
    size_t shard = 0;    // in index_.shards
    size_t episode = 0;  // in its episodes
    size_t file = 0;     // in files_
  };

  const Place& place(int64_t i) const { return entries_.at(static_cast<size_t>(i)); }
  const EpisodeEntry& entry(int64_t i) const {
    return index_.shards[place(i).shard].episodes[place(i).episode];
  }

  EpisodeIndex index_;
  SeedRange seeds_;  // of the split
  std::vector<Place> entries_;
  std::vector<ReadOnlyFile> files_;
};

}  // namespace espalier
