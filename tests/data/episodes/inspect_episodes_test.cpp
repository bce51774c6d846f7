#include "data/episodes/inspect_episodes.h"

#include "data/errors.h"
#include "tests/data/episodes/episode_files.h"

namespace espalier {
namespace {

TEST(InspectEpisodes, CountsByTaskAndSplit) {
  EpisodeFiles files;
  files.add_usual_shards();
  const EpisodeIndex index = read_episode_index(files.write());

  const EpisodeStatistics statistics = inspect_episodes(index, false);

  const EpisodeTaskStatistics& reach = statistics.splits.at("train").at("Reach");
  EXPECT_EQ(reach.episodes, 2);
  EXPECT_EQ(reach.steps, 5);
  EXPECT_EQ(reach.min_steps, 2);
  EXPECT_EQ(reach.max_steps, 3);
  EXPECT_EQ(reach.successes, 2);
  EXPECT_EQ(reach.instructions, 1);
  EXPECT_EQ(statistics.splits.at("test").count("Push"), 0U);

  const nlohmann::json json = to_json(index, statistics);
  EXPECT_EQ(json["splits"]["validation"]["Push"]["steps"], 4);
  EXPECT_EQ(json["action"]["kind"], "discrete");
  EXPECT_EQ(json["fingerprint"], index.fingerprint());
  expect_contains(describe(index, statistics),
                  {"small: 5 episodes of none in 4 shards", "primary, wrist; 6 x 4 pixels",
                   "discrete, 3: left, right, go", "unseen 1000 to 1099",
                   "  train       Reach           2         5      2      2.5      3    100.0 %"});
}

TEST(InspectEpisodes, RefusesAShardOfAnotherDigest) {
  EpisodeFiles files;
  files.add_usual_shards();
  files.index["shards"][3]["sha256"] = std::string(64, '0');
  const EpisodeIndex index = read_episode_index(files.write());

  expect_contains(message_of<DataError>([&] { inspect_episodes(index, false); }),
                  {"test-00000.tar", "SHA-256"});
  const EpisodeStatistics statistics = inspect_episodes(index, true);
  EXPECT_EQ(statistics.bad_shards, 1);
  EXPECT_EQ(statistics.bad_episodes, 0);
  expect_contains(describe(index, statistics), {"bad: 0 episodes, 1 shards"});
}

TEST(InspectEpisodes, CountsBadEpisodesWhenTheyAreSkipped) {
  EpisodeFiles files;
  StoredEpisode bad = stored_episode("00000001", "Reach", 6, 2);
  bad.wrist = "no picture";
  files.add_shard("train-00000.tar", "train", {stored_episode("00000000", "Reach", 5, 3), bad});
  const EpisodeIndex index = read_episode_index(files.write());

  expect_contains(message_of<DataError>([&] { inspect_episodes(index, false); }),
                  {"episode 00000001", "wrist.png"});
  const EpisodeStatistics statistics = inspect_episodes(index, true);
  EXPECT_EQ(statistics.bad_episodes, 1);
  EXPECT_EQ(statistics.splits.at("train").at("Reach").episodes, 1);
  expect_contains(statistics.bad_messages.at(0), {"00000001.wrist.png"});
}

TEST(InspectEpisodes, ComparesTheWordsWithTheInstructions) {
  EpisodeFiles files;
  files.add_usual_shards();
  files.index["words"] = {"ball", "go", "the"};
  expect_contains(
      message_of<DataError>([&] { inspect_episodes(read_episode_index(files.write()), false); }),
      {"\"to\" is in a training instruction and not in \"words\""});
  files.index["words"] = {"ball", "box", "go", "the", "to"};
  expect_contains(
      message_of<DataError>([&] { inspect_episodes(read_episode_index(files.write()), false); }),
      {"\"box\" is in no training instruction"});
}

}  // namespace
}  // namespace espalier
