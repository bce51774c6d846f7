#include "data/episodes/episode_index.h"

#include <functional>

#include "data/errors.h"
#include "tests/data/episodes/episode_files.h"

namespace espalier {
namespace {

class EpisodeIndexTest : public ::testing::Test {
 protected:
  EpisodeIndexTest() { files_.add_usual_shards(); }

  std::string refusal(const std::function<void(nlohmann::json&)>& change) {
    const nlohmann::json before = files_.index;
    change(files_.index);
    const std::string path = files_.write();
    const std::string message = message_of<DataError>([&] { read_episode_index(path); });
    files_.index = before;
    return message;
  }

  std::string refusal_of(const std::string& pointer, const nlohmann::json& value) {
    return refusal(
        [&](nlohmann::json& index) { index[nlohmann::json::json_pointer(pointer)] = value; });
  }

  EpisodeFiles files_;
};

TEST_F(EpisodeIndexTest, HoldsWhatTheFileSays) {
  files_.write();
  const EpisodeIndex index = read_episode_index(files_.folder.file(""));

  EXPECT_EQ(index.name, "small");
  EXPECT_EQ(index.packages.at("minigrid"), "3.2.0");
  EXPECT_EQ(index.views, (std::vector<std::string>{"primary", "wrist"}));
  EXPECT_EQ(index.height, kTestHeight);
  EXPECT_EQ(index.width, kTestWidth);
  EXPECT_EQ(index.action_kind, ActionKind::kDiscrete);
  EXPECT_EQ(index.action_size(), kTestActions);
  EXPECT_EQ(index.state_size(), kTestState);
  EXPECT_EQ(index.depth_views, std::vector<std::string>{"primary"});
  EXPECT_EQ(index.segmentation_views, std::vector<std::string>{"wrist"});
  EXPECT_EQ(index.max_steps.at("Push"), 30);
  EXPECT_EQ(index.words.size(), 4U);
  EXPECT_EQ(index.action_mean, (std::vector<float>{0.25, 0.5, 0.25}));
  EXPECT_EQ(index.splits.at("train").episodes, 3);
  EXPECT_EQ(index.splits.at("train").steps, 10);
  EXPECT_TRUE(index.splits.at("validation").seeds.contains(199));
  EXPECT_FALSE(index.splits.at("validation").seeds.contains(200));
  EXPECT_EQ(index.unseen_seeds.first, 1000);
  ASSERT_EQ(index.shards.size(), 4U);
  EXPECT_EQ(index.shards[0].path, files_.folder.file("train-00000.tar"));
  EXPECT_EQ(index.shards[0].episodes[1].key, "00000001");
  EXPECT_EQ(index.shards[0].episodes[1].offset, index.shards[0].episodes[0].bytes);
}

TEST_F(EpisodeIndexTest, TrajectoriesMayBeThereAndMustFitTheImages) {
  files_.index["trajectory"] = {{"views", {"wrist"}}, {"ahead", 3}, {"cell", 2}};
  files_.write();
  const EpisodeTrajectories found = read_episode_index(files_.folder.file("")).trajectories;
  EXPECT_EQ(found.views, std::vector<std::string>{"wrist"});
  EXPECT_EQ(found.ahead, 3);
  EXPECT_EQ(found.cell, 2);
  expect_contains(refusal([](nlohmann::json& index) { index["trajectory"]["cell"] = 3; }),
                  {"field \"trajectory.cell\"", "a divisor of the images' sides"});
  expect_contains(refusal([](nlohmann::json& index) { index["trajectory"]["views"] = {"side"}; }),
                  {"field \"trajectory.views\"", "only names of image.views"});
}

TEST_F(EpisodeIndexTest, RefusesEachFieldThatIsMissing) {
  for (const char* key :
       {"format",    "version",   "name",         "simulator",   "packages",   "expert",
        "command",   "image",     "state",        "action",      "depth",      "segmentation",
        "tasks",     "max_steps", "words",        "action_mean", "action_std", "state_mean",
        "state_std", "splits",    "unseen_seeds", "shards"}) {
    expect_contains(refusal([&](nlohmann::json& index) { index.erase(key); }),
                    {"index.json: field \"" + std::string(key) + "\" is missing; expected ",
                     "prepare it again"});
  }
  const std::vector<std::pair<std::string, std::vector<std::string>>> inside = {
      {"image", {"views", "height", "width", "channels"}},
      {"state", {"size", "names"}},
      {"action", {"kind", "size", "names"}},
      {"splits", {"train", "validation", "test"}},
      {"max_steps", {"Reach", "Push"}}};
  for (const auto& [object, keys] : inside) {
    for (const std::string& key : keys) {
      expect_contains(refusal([&](nlohmann::json& index) { index[object].erase(key); }),
                      {"field \"" + object + "." + key + "\" is missing; expected "});
    }
  }
  for (const char* key : {"file", "split", "bytes", "sha256", "episodes"}) {
    expect_contains(refusal([&](nlohmann::json& index) { index["shards"][2].erase(key); }),
                    {"field \"shards[2]." + std::string(key) + "\" is missing"});
  }
  for (const char* key : {"key", "offset", "bytes", "task", "steps"}) {
    expect_contains(
        refusal([&](nlohmann::json& index) { index["shards"][0]["episodes"][1].erase(key); }),
        {"field \"shards[0].episodes[1]." + std::string(key) + "\" is missing"});
  }
}

TEST_F(EpisodeIndexTest, RefusesValuesOfAnotherKind) {
  const nlohmann::json whole = files_.index;  // items() of what is changed would not hold
  for (const auto& item : whole.items()) {
    const std::string& key = item.key();
    expect_contains(refusal_of("/" + key, nullptr), {"\"" + key + "\" is null; expected "});
    expect_contains(refusal_of("/" + key, true), {"\"" + key + "\" is true; expected "});
  }
}

TEST_F(EpisodeIndexTest, SaysWhatEachValueShouldBe) {
  const std::vector<std::tuple<std::string, nlohmann::json, std::vector<std::string>>> cases = {
      {"/format", "webdataset", {"\"format\" is \"webdataset\"", "espalier-episodes"}},
      {"/version", 2, {"\"version\" is 2", "an integer of 1 to 1"}},
      {"/image/height", 0, {"\"image.height\" is 0", "1 to 4096"}},
      {"/image/height", 1.5, {"\"image.height\" is 1.5", "an integer"}},
      {"/image/channels", 4, {"\"image.channels\" is 4"}},
      {"/image/views", {"primary", "a.b"}, {"image.views", "without dots"}},
      {"/image/views", {"primary", "primary"}, {"image.views", "only once"}},
      {"/depth", {"top"}, {"\"depth\" is [\"top\"]", "image.views"}},
      {"/action/kind", "both", {"action.kind", "\"discrete\" or \"continuous\""}},
      {"/action/size", 4, {"action.names", "4 names"}},
      {"/action_mean", {1, 2}, {"action_mean", "3 finite numbers"}},
      {"/action_std", {1, 0, 1}, {"action_std", "at least 0.001"}},
      {"/state_mean", {1e300, 1}, {"state_mean", "finite"}},
      {"/tasks", nlohmann::json::array(), {"tasks", "at least one task"}},
      {"/words", {"to", "go"}, {"words", "sorted"}},
      {"/splits/train/seeds", {5, 2}, {"splits.train.seeds", "first <= last"}},
      {"/splits/train/episodes", 4, {"splits.train.episodes\" is 4; expected 3"}},
      {"/splits/test/steps", 2, {"splits.test.steps\" is 2; expected 1"}},
      {"/splits/extra", {{"seeds", {9, 9}}}, {"\"splits\"", "and no other"}},
      {"/unseen_seeds", {50, 60}, {"splits.train.seeds", "unseen_seeds", "overlap"}},
      {"/shards", nlohmann::json::array(), {"shards", "at least one"}},
      {"/shards/0/file", "../train-00000.tar", {"shards[0].file", "in the folder of the index"}},
      {"/shards/1/file", "train-00000.tar", {"shards[1].file", "each once"}},
      {"/shards/0/split", "dev", {"shards[0].split", "train, validation or test"}},
      {"/shards/0/sha256", "AB", {"shards[0].sha256", "64"}},
      {"/shards/0/bytes", 18446744073709551615U, {"shards[0].bytes", "at least 512"}},
      {"/shards/0/episodes/0/key", "7", {"shards[0].episodes[0].key", "8 digits"}},
      {"/shards/0/episodes/1/key", "00000000", {"episodes[1].key", "no other episode"}},
      {"/shards/0/episodes/0/task", "Fly", {"episodes[0].task\" is \"Fly\"", "one of \"tasks\""}},
      {"/shards/0/episodes/0/steps", 21, {"episodes[0].steps", "1 to 20"}},
      {"/shards/0/episodes/0/steps", 0, {"episodes[0].steps", "1 to 20"}},
      {"/shards/0/episodes/1/offset", 512, {"episodes[1].offset\" is 512"}},
      {"/shards/0/episodes/0/offset", -512, {"episodes[0].offset\" is -512"}},
      {"/shards/0/episodes/0/offset", 100, {"episodes[0].offset", "multiple of 512"}},
      {"/shards/0/episodes/0/bytes", 1000, {"episodes[0].bytes", "multiple of 512"}},
      {"/shards/0/episodes/1/bytes", int64_t{1} << 62, {"episodes[1].bytes"}}};
  for (const auto& [pointer, value, parts] : cases) {
    SCOPED_TRACE(pointer);
    expect_contains(refusal_of(pointer, value), parts);
  }
}

TEST_F(EpisodeIndexTest, RefusesStripsThatAreTooLongToDecode) {
  expect_contains(refusal([](nlohmann::json& index) {
                    index["image"]["height"] = 4096;
                    index["max_steps"]["Reach"] = 1000;
                    index["shards"][0]["episodes"][0]["steps"] = 500;
                  }),
                  {"episodes[0].steps\" is 500", "at most 1000000 rows"});
}

TEST_F(EpisodeIndexTest, RefusesAFileThatIsNoJson) {
  const std::string path = files_.folder.write("index.json", "{\"format\": ");
  expect_contains(message_of<DataError>([&] { read_episode_index(path); }), {path, "not JSON"});
  files_.folder.write("index.json", "[1]");
  expect_contains(message_of<DataError>([&] { read_episode_index(path); }), {"not an object"});
  std::filesystem::remove(path);
  expect_contains(message_of<DataError>([&] { read_episode_index(files_.folder.file("")); }),
                  {"cannot open", "index.json"});
}

TEST_F(EpisodeIndexTest, SaysWhichShardIsMissing) {
  files_.write();
  const std::string shard = files_.folder.file("validation-00000.tar");
  std::filesystem::remove(shard);
  expect_contains(message_of<DataError>([&] { read_episode_index(files_.folder.file("")); }),
                  {shard, "No such file", "Fetch the data set again"});
}

TEST_F(EpisodeIndexTest, NamesShardEpisodeAndOffsetOfATruncatedShard) {
  files_.write();
  const std::string shard = files_.folder.file("train-00000.tar");
  const auto& second = files_.index["shards"][0]["episodes"][1];
  const int64_t offset = second["offset"];
  std::filesystem::resize_file(shard, static_cast<uintmax_t>(offset) + 700);
  expect_contains(
      message_of<DataError>([&] { read_episode_index(files_.folder.file("")); }),
      {shard, std::to_string(offset + 700) + " bytes; the index says", "truncated",
       "episode 00000001 at byte " + std::to_string(offset), "Fetch the data set again"});
}

TEST_F(EpisodeIndexTest, RefusesAShardThatGrew) {
  files_.write();
  const std::string shard = files_.folder.file("test-00000.tar");
  std::filesystem::resize_file(shard, std::filesystem::file_size(shard) + 512);
  const std::string message =
      message_of<DataError>([&] { read_episode_index(files_.folder.file("")); });
  expect_contains(message, {shard, "the index says"});
  EXPECT_EQ(message.find("truncated"), std::string::npos);
}

TEST_F(EpisodeIndexTest, ChecksDigestsOnDemand) {
  const EpisodeIndex index = read_episode_index(files_.write());
  for (const EpisodeShard& shard : index.shards) EXPECT_NO_THROW(check_digest(shard));

  std::string bytes = read_file(index.shards[0].path);
  bytes[bytes.size() / 2] ^= 1;
  files_.folder.write("train-00000.tar", bytes);

  EXPECT_NO_THROW(read_episode_index(index.path));
  expect_contains(message_of<DataError>([&] { check_digest(index.shards[0]); }),
                  {index.shards[0].path, index.shards[0].sha256, "damaged"});
}

TEST_F(EpisodeIndexTest, FingerprintTellsDataThatTrainDifferently) {
  const EpisodeIndex index = read_episode_index(files_.write());
  const std::string before = index.fingerprint();
  EXPECT_EQ(before.size(), 32U);

  EpisodeIndex changed = index;
  changed.path = "/elsewhere/index.json";
  changed.command = "another";
  EXPECT_EQ(changed.fingerprint(), before);
  changed.shards[1].sha256[5] ^= 1;
  EXPECT_NE(changed.fingerprint(), before);
  changed = index;
  changed.state_std[0] *= 2;
  EXPECT_NE(changed.fingerprint(), before);
  changed = index;
  changed.words.pop_back();
  EXPECT_NE(changed.fingerprint(), before);
}

TEST(EpisodePath, IsAFolderOrAJsonFile) {
  EXPECT_TRUE(is_episode_path("/tmp"));
  EXPECT_TRUE(is_episode_path("some/index.json"));
  EXPECT_FALSE(is_episode_path("some/shard-00000.tar"));
}

}  // namespace
}  // namespace espalier
