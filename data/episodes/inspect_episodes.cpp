#include "data/episodes/inspect_episodes.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <set>
#include <sstream>
#include <tuple>
#include <utility>

#include <nlohmann/json.hpp>

#include "data/episodes/episode_reader.h"
#include "data/errors.h"

namespace espalier {
namespace {

constexpr size_t kMaxMessages = 100;

void count(EpisodeTaskStatistics& task, const Episode& episode) {
  task.min_steps = task.episodes == 0 ? episode.steps : std::min(task.min_steps, episode.steps);
  task.max_steps = std::max(task.max_steps, episode.steps);
  task.steps += episode.steps;
  task.successes += episode.success ? 1 : 0;
  ++task.episodes;
}

// Lower case of ASCII letters only: simulators speak English.
void add_words(const std::string& instruction, std::set<std::string>& words) {
  std::istringstream text(instruction);
  for (std::string word; text >> word;) {
    std::transform(word.begin(), word.end(), word.begin(), [](char c) {
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    words.insert(word);
  }
}

std::string joined(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : ", ") + item;
  return text.empty() ? "none" : text;
}

class Inspector {
 public:
  Inspector(const EpisodeIndex& index, bool skip_bad) : index_(index), skip_bad_(skip_bad) {}

  EpisodeStatistics run() {
    statistics_.fingerprint = index_.fingerprint();
    for (const EpisodeShard& shard : index_.shards) {
      statistics_.shard_bytes += shard.bytes;
      attempt(statistics_.bad_shards, [&] { check_digest(shard); });
    }
    for (const char* split : kEpisodeSplits) {
      if (index_.splits.at(split).episodes > 0) read_split(split);
    }
    // Without the bad episodes some words may be missing.
    if (statistics_.bad_episodes == 0) require_words();
    return std::move(statistics_);
  }

 private:
  void attempt(int64_t& bad, const std::function<void()>& action) {
    try {
      action();
    } catch (const DataError& error) {
      if (!skip_bad_) throw;
      ++bad;
      if (statistics_.bad_messages.size() < kMaxMessages)
        statistics_.bad_messages.emplace_back(error.what());
    }
  }

  void read_split(const std::string& split) {
    const EpisodeReader reader(index_, split);
    std::map<std::string, std::set<std::string>> instructions;
    for (int64_t i = 0; i < reader.size(); ++i) {
      attempt(statistics_.bad_episodes, [&] {
        const Episode episode = reader.read(i);
        count(statistics_.splits[split][episode.task], episode);
        instructions[episode.task].insert(episode.instruction);
        if (split == "train") add_words(episode.instruction, words_);
      });
    }
    for (const auto& [task, texts] : instructions)
      statistics_.splits[split][task].instructions = std::ssize(texts);
  }

  void require_words() const {
    const std::set<std::string> said(index_.words.begin(), index_.words.end());
    if (said == words_) return;
    for (const auto& [one, other, what] :
         {std::tuple(&words_, &said, " is in a training instruction and not in"),
          std::tuple(&said, &words_, " is in no training instruction, yet in")}) {
      for (const std::string& word : *one) {
        if (!other->contains(word))
          throw DataError(index_.path + ": \"" + word + "\"" + what +
                          " \"words\". Prepare the data set again.");
      }
    }
  }

  const EpisodeIndex& index_;
  bool skip_bad_;
  EpisodeStatistics statistics_;
  std::set<std::string> words_;
};

std::string row(const std::string& split, const std::string& task,
                const EpisodeTaskStatistics& counts, size_t width) {
  const auto percent = static_cast<double>(counts.successes) * 100 /
                       static_cast<double>(std::max<int64_t>(counts.episodes, 1));
  const auto mean = static_cast<double>(counts.steps) /
                    static_cast<double>(std::max<int64_t>(counts.episodes, 1));
  std::array<char, 160> numbers{};
  std::snprintf(numbers.data(), numbers.size(), "%9lld %9lld %6lld %8.1f %6lld %8.1f %% %13lld\n",
                static_cast<long long>(counts.episodes), static_cast<long long>(counts.steps),
                static_cast<long long>(counts.min_steps), mean,
                static_cast<long long>(counts.max_steps), percent,
                static_cast<long long>(counts.instructions));
  std::string text =
      "  " + split + std::string(12 - std::min<size_t>(split.size(), 11), ' ') + task;
  return text + std::string(width - std::min(width, task.size()), ' ') + numbers.data();
}

}  // namespace

EpisodeStatistics inspect_episodes(const EpisodeIndex& index, bool skip_bad) {
  return Inspector(index, skip_bad).run();
}

nlohmann::json to_json(const EpisodeIndex& index, const EpisodeStatistics& statistics) {
  nlohmann::json splits = nlohmann::json::object();
  for (const auto& [split, tasks] : statistics.splits) {
    for (const auto& [task, counts] : tasks) {
      splits[split][task] = {
          {"episodes", counts.episodes},   {"steps", counts.steps},
          {"min_steps", counts.min_steps}, {"max_steps", counts.max_steps},
          {"successes", counts.successes}, {"instructions", counts.instructions}};
    }
  }
  return {{"name", index.name},
          {"simulator", index.simulator},
          {"packages", index.packages},
          {"expert", index.expert},
          {"fingerprint", statistics.fingerprint},
          {"shards", index.shards.size()},
          {"shard_bytes", statistics.shard_bytes},
          {"image", {{"views", index.views}, {"height", index.height}, {"width", index.width}}},
          {"depth", index.depth_views},
          {"segmentation", index.segmentation_views},
          {"trajectory", index.trajectories.views},
          {"action", {{"kind", name_of(index.action_kind)}, {"names", index.action_names}}},
          {"state", index.state_names},
          {"words", index.words.size()},
          {"splits", splits},
          {"bad",
           {{"episodes", statistics.bad_episodes},
            {"shards", statistics.bad_shards},
            {"messages", statistics.bad_messages}}}};
}

std::string describe(const EpisodeIndex& index, const EpisodeStatistics& statistics) {
  std::ostringstream out;
  int64_t episodes = 0;
  for (const EpisodeShard& shard : index.shards) episodes += std::ssize(shard.episodes);
  std::array<char, 32> megabytes{};
  std::snprintf(megabytes.data(), megabytes.size(), "%.1f",
                static_cast<double>(statistics.shard_bytes) / 1e6);
  out << index.name << ": " << episodes << " episodes of " << index.simulator << " in "
      << index.shards.size() << (index.shards.size() == 1 ? " shard, " : " shards, ")
      << megabytes.data() << " MB, fingerprint " << statistics.fingerprint << "\n";
  out << "  expert        " << index.expert << "\n";
  out << "  views         " << joined(index.views) << "; " << index.width << " x " << index.height
      << " pixels\n";
  out << "  depth         " << joined(index.depth_views) << "\n";
  out << "  segmentation  " << joined(index.segmentation_views) << "\n";
  if (!index.trajectories.views.empty()) {
    out << "  trajectory    " << joined(index.trajectories.views) << "; "
        << index.trajectories.ahead << " steps ahead, cells of " << index.trajectories.cell
        << " pixels\n";
  }
  out << "  action        " << name_of(index.action_kind) << ", " << index.action_size() << ": "
      << joined(index.action_names) << "\n";
  out << "  state         " << index.state_size() << ": " << joined(index.state_names) << "\n";
  out << "  words         " << index.words.size() << "\n";
  for (const char* split : kEpisodeSplits) {
    const SeedRange seeds = index.splits.at(split).seeds;
    out << "  seeds         " << split << " " << seeds.first << " to " << seeds.last << "\n";
  }
  out << "  seeds         unseen " << index.unseen_seeds.first << " to " << index.unseen_seeds.last
      << "\n";

  size_t width = 8;
  for (const std::string& task : index.tasks) width = std::max(width, task.size() + 1);
  out << "  split       task" << std::string(width - 4, ' ')
      << " episodes     steps    min     mean    max  success    instructions\n";
  for (const char* split : kEpisodeSplits) {
    const auto tasks = statistics.splits.find(split);
    if (tasks == statistics.splits.end()) continue;
    for (const auto& [task, counts] : tasks->second) out << row(split, task, counts, width);
  }
  if (statistics.bad_episodes + statistics.bad_shards > 0) {
    out << "  bad: " << statistics.bad_episodes << " episodes, " << statistics.bad_shards
        << " shards of another SHA-256\n";
    for (const std::string& message : statistics.bad_messages) out << "    " << message << "\n";
  }
  return out.str();
}

}  // namespace espalier
