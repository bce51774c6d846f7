#include "data/episodes/episode_reader.h"

#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <thread>

#include "data/errors.h"
#include "tests/data/episodes/episode_files.h"

namespace espalier {
namespace {

EpisodeReader reader_of(const EpisodeFiles& files, const std::string& split = "train",
                        const std::vector<std::string>& tasks = {}) {
  return {read_episode_index(files.write()), split, tasks};
}

// The message for one training episode of three steps that `change` has spoilt; it begins with the
// shard, the episode and the byte whatever is wrong.
std::string refusal(const std::function<void(StoredEpisode&)>& change) {
  EpisodeFiles files;
  StoredEpisode episode = stored_episode("00000012", "Reach", 5, 3);
  change(episode);
  const int64_t steps_said = 3;
  files.add_shard("train-00000.tar", "train", {stored_episode("00000011", "Reach", 4, 1), episode});
  auto& entry = files.index["shards"][0]["episodes"][1];
  entry["steps"] = steps_said;
  entry["key"] = "00000012";
  entry["task"] = "Reach";
  files.index["splits"]["train"]["steps"] = 1 + steps_said;
  const EpisodeReader reader = reader_of(files);
  EXPECT_NO_THROW(reader.read(0));
  const std::string message = message_of<DataError>([&] { reader.read(1); });
  const std::string begin = files.folder.file("train-00000.tar") + ": episode 00000012 at byte " +
                            std::to_string(entry["offset"].get<int64_t>()) + ": ";
  EXPECT_EQ(message.substr(0, begin.size()), begin);
  expect_contains(message, {"Fetch or prepare the shard again."});
  return message;
}

TEST(EpisodeReader, KnowsSizesWithoutReadingShards) {
  EpisodeFiles files;
  files.add_usual_shards();
  const EpisodeIndex index = read_episode_index(files.write());
  // Nothing but zeros is left in the shards.
  for (const EpisodeShard& shard : index.shards)
    files.folder.write(std::filesystem::path(shard.path).filename(),
                       std::string(static_cast<size_t>(shard.bytes), '\0'));

  const EpisodeReader reader(index, "train");

  ASSERT_EQ(reader.size(), 3);
  EXPECT_EQ(reader.steps(1), 5);
  EXPECT_EQ(reader.task(1), "Push");
  EXPECT_EQ(reader.key(2), "00000002");
  EXPECT_THROW(reader.steps(3), std::out_of_range);
  EXPECT_THROW(reader.read(-1), std::out_of_range);
}

TEST(EpisodeReader, ReadsEveryValueOfAnEpisode) {
  EpisodeFiles files;
  files.add_usual_shards();
  const EpisodeReader reader = reader_of(files);

  const Episode episode = reader.read(1);

  EXPECT_EQ(episode.key, "00000001");
  EXPECT_EQ(episode.instruction, "Go to the ball");
  EXPECT_EQ(episode.task, "Push");
  EXPECT_EQ(episode.seed, 8);
  EXPECT_EQ(episode.steps, 5);
  EXPECT_TRUE(episode.success);
  ASSERT_EQ(episode.frames.size(), 2U);
  EXPECT_EQ(episode.frames[0], strip_of(5, 1).rgb);
  EXPECT_EQ(episode.frames[1], strip_of(5, 2).rgb);
  EXPECT_EQ(episode.actions, (std::vector<float>{1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0}));
  EXPECT_EQ(episode.state, (std::vector<float>{0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5}));
  ASSERT_EQ(episode.depth.size(), 1U);
  ASSERT_EQ(episode.depth[0].size(), size_t{5 * kTestHeight * kTestWidth});
  EXPECT_EQ(episode.depth[0][7], 1.75F);
  ASSERT_EQ(episode.segmentation.size(), 1U);
  EXPECT_EQ(episode.segmentation[0][8], 3);
}

TEST(EpisodeReader, ChoosesASplitAndTasks) {
  EpisodeFiles files;
  files.add_usual_shards();

  const EpisodeReader reach = reader_of(files, "train", {"Reach"});
  ASSERT_EQ(reach.size(), 2);
  EXPECT_EQ(reach.read(0).key, "00000000");
  EXPECT_EQ(reach.read(1).key, "00000002");
  EXPECT_EQ(reader_of(files, "validation").read(0).seed, 101);
  EXPECT_EQ(reader_of(files, "test", {"Push", "Reach"}).size(), 1);

  const auto message = [&](const std::string& split, const std::vector<std::string>& tasks) {
    return message_of<DataError>([&] { reader_of(files, split, tasks); });
  };
  expect_contains(message("dev", {}), {"no split \"dev\"", "train, validation or test"});
  expect_contains(message("train", {"Fly"}), {"no task \"Fly\"", "Reach, Push"});
  expect_contains(message("test", {"Push"}), {"split \"test\" has no episodes of Push"});
}

TEST(EpisodeReader, ReadsTheSameFromManyThreads) {
  EpisodeFiles files;
  files.add_usual_shards();
  const EpisodeReader reader = reader_of(files);
  std::vector<Episode> expected;
  for (int64_t i = 0; i < reader.size(); ++i) expected.push_back(reader.read(i));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int turn = 0; turn < 50; ++turn) {
        const int64_t i = (thread + turn) % reader.size();
        const Episode episode = reader.read(i);
        const Episode& good = expected[static_cast<size_t>(i)];
        if (episode.frames != good.frames || episode.depth != good.depth) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(EpisodeReader, ReadsStripsThatAreLongerThanAPictureMayBe) {
  EpisodeFiles files;
  files.index["max_steps"]["Reach"] = 5000;
  files.add_shard("train-00000.tar", "train", {stored_episode("00000000", "Reach", 1, 5000)});
  ASSERT_GT(5000 * kTestHeight, kMaxImageSide);
  EXPECT_EQ(reader_of(files).read(0).frames[0], strip_of(5000, 1).rgb);
}

TEST(EpisodeReader, SaysWhichDescriptionIsWrong) {
  expect_contains(refusal([](auto& e) { e.description.erase("instruction"); }),
                  {"member 00000012.json at byte", "\"instruction\" is missing"});
  expect_contains(refusal([](auto& e) { e.description["task"] = "Push"; }),
                  {"\"task\" is \"Push\"; expected \"Reach\""});
  expect_contains(refusal([](auto& e) { e.description["steps"] = 4; }), {"\"steps\" is 4"});
  expect_contains(refusal([](auto& e) { e.description["seed"] = 100; }),
                  {"\"seed\" is 100; expected an integer of 0 to 99"});
  expect_contains(refusal([](auto& e) { e.description["success"] = 1; }), {"true or false"});
}

TEST(EpisodeReader, SaysWhichMemberIsMissing) {
  expect_contains(refusal([](auto& e) { e.key = "00000099"; }),
                  {"member 00000099.json at byte", "expected 00000012.json"});
}

TEST(EpisodeReader, RefusesAPictureOfAnotherSizeOrKind) {
  expect_contains(refusal([](auto& e) { e.wrist = text_of(encode_png(strip_of(2, 0))); }),
                  {"member 00000012.wrist.png at byte", "6 x 8 pixels; expected 6 x 12"});
  expect_contains(refusal([](auto& e) {
                    const std::vector<uint8_t> grey(6 * 12, 7);
                    e.primary = text_of(png_of(6, 12, PNG_FORMAT_GRAY, grey.data()));
                  }),
                  {"00000012.primary.png", "not 8-bit RGB"});
  expect_contains(refusal([](auto& e) {
                    const std::vector<uint8_t> rgba(size_t{6 * 12 * 4}, 7);
                    e.primary = text_of(png_of(6, 12, PNG_FORMAT_RGBA, rgba.data()));
                  }),
                  {"not 8-bit RGB"});
  expect_contains(refusal([](auto& e) { e.primary = "no picture"; }), {"not a PNG (10 bytes)"});
  expect_contains(refusal([](auto& e) { e.primary.resize(e.primary.size() / 2); }),
                  {"primary.png", "damaged PNG"});
  expect_contains(refusal([](auto& e) { e.primary[e.primary.size() / 2] ^= 1; }),
                  {"primary.png", "damaged PNG"});
}

TEST(EpisodeReader, RefusesArraysOfAnotherShapeOrType) {
  expect_contains(
      refusal([](auto& e) {
        e.arrays[0].shape = {2, kTestActions};
        e.arrays[0].bytes.resize(2 * kTestActions * 4);
      }),
      {"member 00000012.safetensors at byte", "\"actions\" is F32 [2, 3]; expected F32 [3, 3]"});
  expect_contains(refusal([](auto& e) {
                    e.arrays[1].type = "U8";
                    e.arrays[1].bytes.resize(3 * kTestState);
                  }),
                  {"\"state\" is U8 [3, 2]; expected F32 [3, 2]"});
  expect_contains(refusal([](auto& e) {
                    e.arrays[3].shape = {3, kTestWidth, kTestHeight};
                  }),
                  {"\"segmentation.wrist\" is U8 [3, 6, 4]; expected U8 [3, 4, 6]"});
  expect_contains(refusal([](auto& e) { e.arrays.erase(e.arrays.begin() + 2); }),
                  {"\"depth.primary\" is missing; expected F32 [3, 4, 6]"});
  expect_contains(refusal([](auto& e) {
                    e.arrays.push_back({"extra", "U8", {1}, "x"});
                  }),
                  {"5 arrays; the index has 4"});
}

TEST(EpisodeReader, RefusesValuesThatWouldSpoilTraining) {
  const auto put = [](size_t array, size_t item, float value) {
    return refusal([=](StoredEpisode& e) {
      std::memcpy(e.arrays[array].bytes.data() + item * sizeof value, &value, sizeof value);
    });
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  expect_contains(put(0, 4, nan), {"\"actions\" has a NaN in step 1"});
  expect_contains(put(1, 5, -infinity), {"\"state\" has an infinite value in step 2"});
  expect_contains(put(2, 0, infinity), {"\"depth.primary\""});
  expect_contains(put(2, 0, -1), {"depth.primary has a distance below zero"});
  expect_contains(put(0, 1, 1), {"action of step 0 is not one-hot"});
  expect_contains(put(0, 8, 0.5F), {"action of step 2 is not one-hot"});
}

TEST(EpisodeReader, RefusesContinuousActionsOutOfRange) {
  EpisodeFiles files;
  files.index["action"]["kind"] = "continuous";
  StoredEpisode episode = stored_episode("00000000", "Reach", 5, 2);
  episode.arrays[0].bytes = float_bytes({0.3F, -1, 1, 0, 0, -0.25F});
  StoredEpisode wild = stored_episode("00000001", "Reach", 6, 1);
  wild.arrays[0].bytes = float_bytes({0, 1.01F, 0});
  files.add_shard("train-00000.tar", "train", {episode, wild});
  const EpisodeReader reader = reader_of(files);
  EXPECT_EQ(reader.read(0).actions[5], -0.25F);
  expect_contains(message_of<DataError>([&] { reader.read(1); }),
                  {"episode 00000001", "action of step 0 is not within [-1, 1]"});
}

TEST(EpisodeReader, NamesShardEpisodeAndOffsetWhenAShardIsCutUnderIt) {
  EpisodeFiles files;
  files.add_usual_shards();
  const EpisodeReader reader = reader_of(files);
  const std::string shard = files.folder.file("train-00000.tar");
  const int64_t offset = files.index["shards"][0]["episodes"][1]["offset"];
  std::filesystem::resize_file(shard, static_cast<uintmax_t>(offset) + 600);
  EXPECT_NO_THROW(reader.read(0));
  expect_contains(message_of<DataError>([&] { reader.read(1); }),
                  {shard + ": episode 00000001 at byte " + std::to_string(offset), "shorter"});
}

TEST(EpisodeReader, NoticesEveryFlippedBitOfATarHeader) {
  EpisodeFiles files;
  files.add_usual_shards();
  const EpisodeIndex index = read_episode_index(files.write());
  const std::string whole = read_file(index.shards[0].path);
  const auto offset = static_cast<size_t>(index.shards[0].episodes[1].offset);
  for (size_t byte = offset; byte < offset + 512; ++byte) {
    // Of the checksum's field: a leading 0 that becomes a space, and the byte behind its end.
    if (byte - offset == 148 || byte - offset == 155) continue;
    std::string bytes = whole;
    bytes[byte] ^= static_cast<char>(1 << byte % 8);
    files.folder.write("train-00000.tar", bytes);
    const EpisodeReader reader(index, "train");
    expect_contains(message_of<DataError>([&] { reader.read(1); }),
                    {"train-00000.tar: episode 00000001 at byte " + std::to_string(offset)});
  }
}

TEST(EpisodeReader, SurvivesRandomDamageAndNamesTheEpisode) {
  EpisodeFiles files;
  files.add_usual_shards();
  const EpisodeIndex index = read_episode_index(files.write());
  const std::string whole = read_file(index.shards[0].path);
  std::mt19937 random(20240601);
  int refused = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    std::string bytes = whole;
    const int flips = 1 + static_cast<int>(random() % 8);
    for (int flip = 0; flip < flips; ++flip)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    if (trial % 4 == 0) bytes.resize(random() % bytes.size());
    files.folder.write("train-00000.tar", bytes);
    const EpisodeReader reader(index, "train", {"Reach", "Push"});
    for (int64_t i = 0; i < 2; ++i) {
      try {
        const Episode episode = reader.read(i);
        for (const float value : episode.actions) ASSERT_TRUE(std::isfinite(value));
      } catch (const DataError& error) {
        ++refused;
        expect_contains(error.what(),
                        {"train-00000.tar: episode 0000000" + std::to_string(i) + " at byte "});
      }
    }
  }
  EXPECT_GT(refused, 500);
}

TEST(EpisodeReader, SurvivesRandomDamageToTheIndex) {
  EpisodeFiles files;
  files.add_usual_shards();
  const std::string whole = files.index.dump();
  std::mt19937 random(7);
  int refused = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    std::string bytes = whole;
    bytes[random() % bytes.size()] = static_cast<char>(32 + random() % 95);
    if (trial % 4 == 0) bytes.resize(random() % bytes.size());
    const std::string path = files.folder.write("index.json", bytes);
    try {
      const EpisodeReader reader(read_episode_index(path), "train");
      for (int64_t i = 0; i < reader.size(); ++i) reader.read(i);
    } catch (const DataError& error) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace espalier
