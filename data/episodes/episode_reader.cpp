#include "data/episodes/episode_reader.h"

#include <algorithm>
#include <utility>

#include "data/episodes/episode_parser.h"
#include "data/errors.h"

namespace espalier {
namespace {

std::string list_of(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

EpisodeReader::EpisodeReader(EpisodeIndex index, const std::string& split,
                             const std::vector<std::string>& tasks)
    : index_(std::move(index)) {
  const auto found = index_.splits.find(split);
  if (found == index_.splits.end())
    throw DataError(index_.path + ": no split \"" + split +
                    "\"; expected train, validation or test");
  seeds_ = found->second.seeds;
  for (const std::string& task : tasks) {
    if (!index_.max_steps.contains(task))
      throw DataError(index_.path + ": no task \"" + task + "\"; it has " + list_of(index_.tasks));
  }
  for (size_t s = 0; s < index_.shards.size(); ++s) {
    const EpisodeShard& shard = index_.shards[s];
    if (shard.split != split) continue;
    const size_t before = entries_.size();
    for (size_t e = 0; e < shard.episodes.size(); ++e) {
      const std::string& task = shard.episodes[e].task;
      if (tasks.empty() || std::find(tasks.begin(), tasks.end(), task) != tasks.end())
        entries_.push_back({s, e, files_.size()});
    }
    if (entries_.size() > before) files_.emplace_back(shard.path);
  }
  if (entries_.empty())
    throw DataError(index_.path + ": split \"" + split + "\" has no episodes" +
                    (tasks.empty() ? "" : " of " + list_of(tasks)) +
                    "; name another split or other tasks, or prepare more episodes");
}

Episode EpisodeReader::read(int64_t i) const {
  const ReadOnlyFile& file = files_[place(i).file];
  try {
    return parse_episode(index_, seeds_, entry(i), file);
  } catch (const DataError& error) {
    throw DataError(file.path() + ": episode " + entry(i).key + " at byte " +
                    std::to_string(entry(i).offset) + ": " + error.what() +
                    ". Fetch or prepare the shard again.");
  }
}

}  // namespace espalier
