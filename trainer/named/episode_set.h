#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/episodes/episode_reader.h"

namespace espalier {

struct EpisodesConfig;

// The index of [episodes.NAME]. Throws ConfigError when the path is not there, naming the command
// that makes a data set, and for a task that the data set has not; DataError when the index is bad.
EpisodeIndex open_episode_index(const EpisodesConfig& config);

// One split of an episode data set. Nothing is decoded before it is asked for, and nothing is kept.
// All methods may be called from any thread.
class EpisodeSet {
 public:
  EpisodeSet(const EpisodeIndex& index, const std::string& split,
             const std::vector<std::string>& tasks);

  const EpisodeIndex& index() const { return reader_.index(); }
  int64_t size() const { return reader_.size(); }  // episodes
  int64_t steps() const { return first_steps_.back(); }
  int64_t steps(int64_t episode) const { return reader_.steps(episode); }
  // Steps of the split before the episode: a number for each of its frames, whatever the episode.
  int64_t first_step(int64_t episode) const { return first_steps_[static_cast<size_t>(episode)]; }
  Episode read(int64_t episode) const { return reader_.read(episode); }

 private:
  EpisodeReader reader_;
  std::vector<int64_t> first_steps_;  // and the number of all at the end
};

}  // namespace espalier
