#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace espalier {

enum class ActionKind : uint8_t { kDiscrete, kContinuous };
const char* name_of(ActionKind kind);  // "discrete", "continuous"

inline constexpr std::array<const char*, 3> kEpisodeSplits = {"train", "validation", "test"};

struct SeedRange {
  int64_t first = 0;
  int64_t last = 0;  // included
  bool contains(int64_t seed) const { return first <= seed && seed <= last; }
};

struct EpisodeSplit {
  SeedRange seeds;
  int64_t episodes = 0;
  int64_t steps = 0;
};

struct EpisodeEntry {
  std::string key;
  std::string task;
  int64_t steps = 0;
  int64_t offset = 0;  // of its first tar header in the shard
  int64_t bytes = 0;   // to the end of its last member, padding included
};

struct EpisodeShard {
  std::string path;
  std::string split;
  int64_t bytes = 0;
  std::string sha256;                  // 64 lower-case hexadecimal digits
  std::vector<EpisodeEntry> episodes;  // by offset
};

// How points move: of the middle of each cell of a view, how far it lies, `ahead` steps later, from
// where it lies now. No views where the episodes have none.
struct EpisodeTrajectories {
  std::vector<std::string> views;  // a part of the index's
  int64_t ahead = 0;               // steps
  int64_t cell = 0;                // pixels; displacements are in cells
};

// index.json of an episode data set, version 1: what is in it and where each episode begins.
struct EpisodeIndex {
  std::string path;  // of index.json
  std::string name;
  std::string simulator;
  std::map<std::string, std::string> packages;  // version by name
  std::string expert;
  std::string command;  // that made the data set

  std::vector<std::string> views;
  int64_t height = 0;  // pixels
  int64_t width = 0;
  std::vector<std::string> state_names;
  ActionKind action_kind = ActionKind::kDiscrete;
  std::vector<std::string> action_names;
  std::vector<std::string> depth_views;  // a part of views
  std::vector<std::string> segmentation_views;
  EpisodeTrajectories trajectories;

  std::vector<std::string> tasks;
  std::map<std::string, int64_t> max_steps;  // by task: when the simulator ends an episode
  std::vector<std::string> words;            // of the training instructions, sorted
  std::vector<float> action_mean, action_std, state_mean, state_std;

  std::map<std::string, EpisodeSplit> splits;  // by name, of kEpisodeSplits
  SeedRange unseen_seeds;                      // for closed-loop evaluation: in no split
  std::vector<EpisodeShard> shards;

  int64_t action_size() const { return std::ssize(action_names); }
  int64_t state_size() const { return std::ssize(state_names); }

  // Another when other episodes would be read, or the same be normalised or tokenized otherwise:
  // XXH3-128 over the shards' splits and digests, the words and the means, 32 hexadecimal digits.
  // Costs nothing: reads no shard.
  std::string fingerprint() const;
};

// Reads index.json, or that of a folder, and checks every field, the sums of the splits, that the
// seeds of the splits are disjoint, and that each shard is there with its recorded size. Digests
// are another matter: check_digest(). Throws DataError naming the file, the field, what was got
// and expected, and for a truncated shard the first episode that is cut.
EpisodeIndex read_episode_index(const std::string& path);

// Whether `path` is what read_episode_index() takes: a folder, or a file that ends in .json.
bool is_episode_path(const std::string& path);

// The SHA-256 of one shard against the index; reads every byte. Throws DataError.
void check_digest(const EpisodeShard& shard);

}  // namespace espalier
