#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "models/errors.h"
#include "toy_room.h"
#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/errors.h"
#include "trainer/record/metrics.h"

namespace espalier {
namespace {

constexpr int64_t kSteps = 10;  // of each of the two stages; checkpoints every 4

class Resume : public ::testing::TestWithParam<int> {};

// Steps 0..20 in one go, but for a stop at 17 that leaves the state of the optimizer to compare.
ToyResult train_straight(const RunConfig& config, int world) {
  return train_toy(config, world, 17);
}

TEST_P(Resume, StoppedTwiceAndContinuedEqualsUninterruptedBitForBit) {
  const int world = GetParam();
  const RunConfig straight = toy_config(fresh_directory("straight"), kSteps);
  const RunConfig resumed = toy_config(fresh_directory("resumed"), kSteps);
  ToyResult expected = train_straight(straight, world);

  ToyResult result = train_toy(resumed, world, 7);  // in the middle of the first stage
  EXPECT_EQ(result.outcome, RunOutcome::kStopped);
  result.losses.merge(train_toy(resumed, world, 6).losses);  // at 13, in the second
  result.losses.merge(train_toy(resumed, world, 4).losses);  // at 17

  const TensorMap tensors = newest_tensors(resumed.directory);
  EXPECT_TRUE(tensors.contains("training/second/optimizer/mean/model/two/trunk.weight"));
  EXPECT_TRUE(tensors.contains("training/second/average/model/two/trunk.weight"));
  EXPECT_EQ(first_difference(newest_tensors(straight.directory), tensors), "");

  expected.losses.merge(train_toy(straight, world).losses);
  const ToyResult last = train_toy(resumed, world);
  EXPECT_EQ(last.outcome, RunOutcome::kFinished);
  result.losses.insert(last.losses.begin(), last.losses.end());
  EXPECT_EQ(result.losses.size(), 20u);
  EXPECT_EQ(result.losses, expected.losses);
  EXPECT_EQ(first_difference(newest_tensors(straight.directory), newest_tensors(resumed.directory)),
            "");
}

TEST_P(Resume, KilledBetweenCheckpointsEqualsUninterruptedBitForBit) {
  const int world = GetParam();
  const RunConfig straight = toy_config(fresh_directory("straight"), kSteps);
  const RunConfig killed = toy_config(fresh_directory("killed"), kSteps);
  train_toy(straight, world);

  // Dies in step 17: the newest checkpoint is of step 14 at best (its commit may not have come).
  const RunConfig dying = toy_config(killed.directory, kSteps, {.dies_at = 7});
  EXPECT_THROW(train_toy(dying, world), std::runtime_error);
  EXPECT_THROW(train_toy(dying, world), std::runtime_error);
  std::ofstream(killed.directory + "/metrics.jsonl", std::ios::app) << "{\"stage\":\"sec";
  const ToyResult result = train_toy(killed, world);

  EXPECT_EQ(result.outcome, RunOutcome::kFinished);
  EXPECT_EQ(first_difference(newest_tensors(straight.directory), newest_tensors(killed.directory)),
            "");
  const auto lines = read_metrics(killed.directory);
  ASSERT_EQ(lines.size(), 20u);
  for (size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i].at("global_step"), i + 1);
  EXPECT_EQ(lines.back().at("generation"), 3);
}

INSTANTIATE_TEST_SUITE_P(Ranks, Resume, ::testing::Values(1, 2, 3));

TEST(ResumeElsewhere, OtherNumberOfRanksGivesTheSameLosses) {
  const RunConfig one = toy_config(fresh_directory("one"), kSteps);
  const RunConfig two_then_one = toy_config(fresh_directory("two-then-one"), kSteps);
  const ToyResult expected = train_toy(one, 1);
  ToyResult result = train_toy(two_then_one, 2, 13);
  result.losses.merge(train_toy(two_then_one, 1).losses);
  ASSERT_EQ(result.losses.size(), expected.losses.size());
  for (const auto& [step, loss] : expected.losses) {
    EXPECT_NEAR(result.losses.at(step), loss, 1e-5 * loss) << "step " << step;
  }
}

TEST(ResumeElsewhere, FinishedRunIsLeftAsItIs) {
  const RunConfig config = toy_config(fresh_directory("run"), 3);
  train_toy(config, 1);
  const auto before = list_checkpoints(config.directory + "/checkpoints");
  const ToyResult again = train_toy(config, 1);
  EXPECT_EQ(again.outcome, RunOutcome::kFinished);
  EXPECT_TRUE(again.losses.empty());
  EXPECT_EQ(list_checkpoints(config.directory + "/checkpoints").size(), before.size());
}

TEST(ResumeElsewhere, LostEvaluationIsMadeUpFor) {
  const RunConfig config = toy_config(fresh_directory("run"), 3);
  train_toy(config, 1);
  const std::string path = config.directory + "/evaluation/second.json";
  std::filesystem::remove(path);
  EXPECT_TRUE(train_toy(config, 1).losses.empty());
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST(ResumeElsewhere, PathOfAnotherRunIsTakenAndNewerOnesAreSetAside) {
  const RunConfig source = toy_config(fresh_directory("source"), kSteps);
  train_toy(source, 1, 6);
  RunConfig target = toy_config(fresh_directory("target"), kSteps);
  train_toy(target, 1, 13);
  target.checkpoint.resume = source.directory;
  const ToyResult result = train_toy(target, 1, 2);
  EXPECT_EQ(result.losses.begin()->first, 7);
  const auto left = list_checkpoints(target.directory + "/checkpoints");
  ASSERT_FALSE(left.empty());
  EXPECT_EQ(left.back().step, 8);
}

TEST(ResumeElsewhere, MissingPathIsAConfigError) {
  RunConfig config = toy_config(fresh_directory("run"), kSteps);
  config.checkpoint.resume = config.directory + "/checkpoints/step-0000000400";
  try {
    train_toy(config, 2);
    FAIL() << "started without the checkpoint";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("there is no such checkpoint"), std::string::npos);
  }
}

TEST(ResumeElsewhere, NoneRefusesADirectoryWithCheckpoints) {
  RunConfig config = toy_config(fresh_directory("run"), kSteps);
  config.checkpoint.resume = "none";
  train_toy(config, 1, 5);
  EXPECT_THROW(train_toy(config, 1), ConfigError);
}

TEST(ResumeElsewhere, CheckpointOfAnotherModelNamesTheTensors) {
  const RunConfig config = toy_config(fresh_directory("run"), kSteps);
  train_toy(config, 1, 5);
  RunConfig wider = toy_config(config.directory, kSteps, {.width = 9});
  wider.values = config.values;  // as if the model's code had changed
  try {
    train_toy(wider, 1);
    FAIL() << "another model was loaded";
  } catch (const WeightsError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("model one"), std::string::npos) << text;
    EXPECT_NE(text.find("left.weight"), std::string::npos) << text;
    EXPECT_NE(text.find("9"), std::string::npos) << text;
  }
  // It was not the checkpoint's fault.
  EXPECT_EQ(train_toy(config, 1, 1).losses.begin()->first, 6);
}

TEST(ResumeElsewhere, StagesOfAnotherConfigAreAConfigError) {
  RunConfig config = toy_config(fresh_directory("run"), kSteps);
  train_toy(config, 1, 5);
  config.stages[0].name = "renamed";
  EXPECT_THROW(train_toy(config, 1), ConfigError);
}

TEST(ResumeElsewhere, LengthOfAFinishedStageCannotChange) {
  RunConfig config = toy_config(fresh_directory("run"), kSteps);
  train_toy(config, 1, 13);
  config.stages[0].steps = 8;
  EXPECT_THROW(train_toy(config, 1), ConfigError);
  config.stages[0].steps = kSteps;
  config.stages[1].steps = 2 * kSteps;  // the one under way can
  EXPECT_EQ(train_toy(config, 1).losses.rbegin()->first, 30);
}

}  // namespace
}  // namespace espalier
