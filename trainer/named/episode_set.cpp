#include "trainer/named/episode_set.h"

#include <algorithm>
#include <filesystem>

#include "trainer/config/run_config.h"
#include "trainer/errors.h"

namespace espalier {

EpisodeIndex open_episode_index(const EpisodesConfig& config) {
  const std::string where = "episodes." + config.name;
  if (config.path.empty() || !std::filesystem::exists(config.path)) {
    const std::string folder = config.path.empty() ? "FOLDER" : config.path;
    throw ConfigError(where + ".path = \"" + config.path +
                      "\": there is no episode data set there. `data/simulators/prepare babyai " +
                      folder + "` makes one (metaworld: robot arms); set " + where +
                      ".path to its folder");
  }
  EpisodeIndex index = read_episode_index(config.path);
  for (const std::string& task : config.tasks) {
    if (std::find(index.tasks.begin(), index.tasks.end(), task) != index.tasks.end()) continue;
    std::string known;
    for (const std::string& name : index.tasks) known += (known.empty() ? "" : ", ") + name;
    throw ConfigError(where + ".tasks: \"" + task + "\" is no task of " + index.path + "; it has " +
                      known);
  }
  return index;
}

EpisodeSet::EpisodeSet(const EpisodeIndex& index, const std::string& split,
                       const std::vector<std::string>& tasks)
    : reader_(index, split, tasks), first_steps_{0} {
  for (int64_t i = 0; i < reader_.size(); ++i) {
    first_steps_.push_back(first_steps_.back() + reader_.steps(i));
  }
}

}  // namespace espalier
