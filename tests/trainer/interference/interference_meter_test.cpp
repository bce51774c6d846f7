#include "trainer/interference/interference_meter.h"

#include <cmath>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "../real_things.h"
#include "../toy_room.h"
#include "pulling_room.h"

namespace espalier {
namespace {

const ParameterPlace kAll = {kEverywhere, -1, ""};
constexpr double kRounding = 1e-6;

std::vector<Pull> two_pulls(double cosine, double half_cosine = 1) {
  return {{"a", "left", {1.0}, half_cosine}, {"b", "right", {cosine}, half_cosine}};
}

TEST(InterferenceMeter, OppositeGradientsHaveCosineMinusOneAndEqualOnesOne) {
  for (const double cosine : {-1.0, 1.0, 0.0, 0.6}) {
    const auto records = train_pulling(fresh_directory("run"), 4, two_pulls(cosine));
    ASSERT_EQ(records.size(), 2u);
    for (const PlaceMeasure& measure : records.back().places) {
      ASSERT_EQ(measure.cosines.size(), 1u);
      EXPECT_NEAR(measure.cosines[0], cosine, kRounding) << text_of(measure.place);
      EXPECT_NEAR(measure.split_half[0], 1, kRounding);
      EXPECT_NEAR(beyond_baseline(measure, 0), cosine - 1, kRounding);
    }
  }
}

TEST(InterferenceMeter, MeasuresEveryProjectionEveryLayerAndAllOfThem) {
  std::vector<Pull> pulls = {{"a", "left", {1, 1}}, {"b", "right", {0.8, -0.5}}};
  const auto records = train_pulling(fresh_directory("run"), 2, pulls);
  ASSERT_EQ(records.size(), 1u);
  const InterferenceRecord& record = records[0];
  EXPECT_EQ(record.stage, "pulling");
  EXPECT_EQ(record.step, 2);
  EXPECT_EQ(record.global_step, 2);
  EXPECT_EQ(record.branches, (std::vector<std::string>{"left", "right"}));
  EXPECT_EQ(record.places.size(), 2u * 3 + 2 + 1);
  EXPECT_NEAR(at_place(record, {"trunk", 0, "second"}).cosines[0], 0.8, kRounding);
  EXPECT_NEAR(at_place(record, {"trunk", 1, "norm"}).cosines[0], -0.5, kRounding);
  EXPECT_NEAR(at_place(record, {"trunk", 1, ""}).cosines[0], -0.5, kRounding);
  EXPECT_NEAR(at_place(record, kAll).cosines[0], (0.8 - 0.5) / 2, kRounding);
  EXPECT_TRUE(at_place(record, {"trunk", 1, "first"}).is_projection);
  EXPECT_FALSE(at_place(record, {"trunk", 1, "norm"}).is_projection);  // no matrix
  EXPECT_EQ(at_place(record, {"trunk", 1, ""}).parameters, 21);
}

TEST(InterferenceMeter, HalvesOfAnObjectivesBatchGiveTheBaseline) {
  // Each has two micro-batches as they are and two that are turned.
  const double h = 0.6, c = 0.5;
  const auto records =
      train_pulling(fresh_directory("run"), 2, two_pulls(c, h), 1, {"stage.pulling.batch_size=16"});
  const PlaceMeasure& matrix = at_place(records.at(0), {"trunk", 0, "first"});
  EXPECT_NEAR(matrix.split_half[0], h, kRounding);
  EXPECT_NEAR(matrix.split_half[1], h, kRounding);
  const double between = c * (1 + h + h + h * h) / 4;  // directions of their own are orthogonal
  EXPECT_NEAR(matrix.half_cosines[0], between, kRounding);
  EXPECT_NEAR(beyond_baseline(matrix, 0), between - h, kRounding);
  // Whole batches: 1 + h in common directions, the rest each of its own.
  const double own = 1 - h * h;
  EXPECT_NEAR(matrix.cosines[0], c * (1 + h) * (1 + h) / ((1 + h) * (1 + h) + own), kRounding);
}

TEST(InterferenceMeter, NormsAreOfTheWeightedGradientOfAStep) {
  std::vector<Pull> pulls = two_pulls(1);
  pulls[1].weight = 0.25;
  const auto records = train_pulling(fresh_directory("run"), 2, pulls);
  // Each parameter is pulled along a unit vector; there are three.
  EXPECT_NEAR(at_place(records.at(0), kAll).norms[0], std::sqrt(3.0), kRounding);
  EXPECT_NEAR(at_place(records.at(0), kAll).norms[1], 0.25 * std::sqrt(3.0), kRounding);
}

TEST(InterferenceMeter, UpdateRatiosAreOfEveryGroupThatTheStepReaches) {
  const auto records = train_pulling(
      fresh_directory("run"), 2, two_pulls(1), 1,
      {"stage.pulling.optimizer.weight_decay=0", "stage.pulling.optimizer.learning_rate=0.01",
       "stage.pulling.optimizer.final_fraction=1"});
  const auto& ratios = records.at(0).update_ratios;
  ASSERT_EQ(ratios.size(), 3u);
  // After one step AdamW moves each number of a branch by its rate; they are near 1.
  EXPECT_NEAR(ratios.at("left"), 0.01 / 0.99, 1e-5);
  EXPECT_NEAR(ratios.at("right"), ratios.at("left"), 1e-9);
  EXPECT_GT(ratios.at("trunk"), 0);
}

class InterferenceOverRanks : public ::testing::TestWithParam<double> {};

// Shares of 0: both objectives are in every micro-batch, and each gets a pass of its own.
TEST_P(InterferenceOverRanks, ManyRanksMeasureWhatOneMeasures) {
  std::vector<Pull> pulls = two_pulls(0.3, 0.7);
  pulls[0].share = pulls[1].share = GetParam();
  const auto one = train_pulling(fresh_directory("one"), 6, pulls);
  for (const int world : {2, 3}) {
    const auto many = train_pulling(fresh_directory("many"), 6, pulls, world);
    ASSERT_EQ(many.size(), 3u);
    for (size_t r = 0; r < many.size(); ++r) {
      EXPECT_EQ(many[r].step, one[r].step);
      for (size_t p = 0; p < many[r].places.size(); ++p) {
        const PlaceMeasure &a = one[r].places[p], &b = many[r].places[p];
        EXPECT_EQ(a.place, b.place);
        EXPECT_NEAR(a.cosines[0], b.cosines[0], kRounding);
        EXPECT_NEAR(a.half_cosines[0], b.half_cosines[0], kRounding);
        EXPECT_NEAR(a.split_half[1], b.split_half[1], kRounding);
        EXPECT_NEAR(a.norms[0], b.norms[0], kRounding);
      }
      EXPECT_NEAR(one[r].update_ratios.at("trunk"), many[r].update_ratios.at("trunk"), kRounding);
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Shares, InterferenceOverRanks, ::testing::Values(0.0, 1.0));

TEST(InterferenceMeter, TrainingIsBitForBitTheOneWithoutIt) {
  constexpr int64_t kToySteps = 6;
  for (const int world : {1, 2}) {
    const RunConfig off = toy_config(fresh_directory("off"), kToySteps);
    const RunConfig on = toy_config(fresh_directory("on"), kToySteps, {},
                                    {"interference.every_steps=1", "interference.budget=1"});
    const ToyResult without = train_toy(off, world);
    EXPECT_EQ(train_toy(on, world).losses, without.losses);
    EXPECT_EQ(first_difference(newest_tensors(off.directory), newest_tensors(on.directory)), "");
    EXPECT_FALSE(read_interference(on.directory).empty());
  }
}

// The tokenizer's objectives share every micro-batch, the decoder's have their own; statistics of
// codebooks, masks and views are drawn beside.
TEST(InterferenceMeter, TrainingOfRealModelsIsBitForBitTheOneWithoutIt) {
  const RunConfig off = small_config(fresh_directory("off"));
  const RunConfig on =
      small_config(fresh_directory("on"), {"interference.every_steps=1", "interference.budget=1"});
  const ToyResult without = train_toy(off, 1);
  EXPECT_EQ(train_toy(on, 1).losses, without.losses);
  EXPECT_EQ(first_difference(newest_tensors(off.directory), newest_tensors(on.directory)), "");
  const auto records = read_interference(on.directory);
  ASSERT_FALSE(records.empty());
  EXPECT_EQ(records.front().objectives,
            (std::vector<std::string>{"residual_evolution", "masked_patches"}));
  EXPECT_EQ(records.back().objectives, (std::vector<std::string>{"caption", "group", "draw"}));
  const PlaceMeasure& projection = at_place(records.back(), {"trunk", 0, "query_key_value"});
  EXPECT_TRUE(std::isfinite(projection.cosines[1]));  // of caption and draw
  EXPECT_LT(std::abs(projection.cosines[1]), 1);
}

TEST(InterferenceMeter, AMeasureLastsUntilEveryObjectiveHadTwoMicroBatches) {
  std::vector<Pull> pulls = two_pulls(-1);
  pulls[1].share = 1.0 / 11;  // of twelve micro-batches one, in every other step
  const auto records = train_pulling(fresh_directory("run"), 8, pulls);
  ASSERT_FALSE(records.empty());
  EXPECT_GT(records[0].steps, 2);
  EXPECT_NEAR(at_place(records[0], kAll).cosines[0], -1, kRounding);
  EXPECT_NEAR(at_place(records[0], kAll).split_half[1], 1, kRounding);
}

TEST(InterferenceMeter, AnObjectiveWithoutASecondMicroBatchHasNoBaseline) {
  std::vector<Pull> pulls = two_pulls(-1);
  pulls[1].share = 1.0 / 11;
  const auto records =
      train_pulling(fresh_directory("run"), 2, pulls, 1, {"interference.every_steps=1"});
  ASSERT_EQ(records.size(), 1u);  // cut where the stage ends
  EXPECT_EQ(records[0].step, 2);
  EXPECT_TRUE(std::isnan(at_place(records[0], kAll).split_half[1]));
  EXPECT_TRUE(std::isnan(beyond_baseline(at_place(records[0], kAll), 0)));
  EXPECT_NEAR(at_place(records[0], kAll).cosines[0], -1, kRounding);
}

TEST(InterferenceMeter, NothingIsMeasuredWhereNoTwoObjectivesShareWhatIsTrained) {
  EXPECT_TRUE(train_pulling(fresh_directory("alone"), 4, {two_pulls(1)[0]}).empty());
  EXPECT_TRUE(train_pulling(fresh_directory("frozen"), 4, two_pulls(1), 1,
                            {"stage.pulling.freeze=[\"trunk.*\"]"})
                  .empty());
  EXPECT_TRUE(
      train_pulling(fresh_directory("off"), 4, two_pulls(1), 1, {"interference.every_steps=0"})
          .empty());
}

TEST(InterferenceMeter, ARunThatWasStoppedAndWentOnHasTheRecordsOfOneThatWasNot) {
  const auto config_of = [](const std::string& name) {
    return load_run_config(
        write_config(pulling_toml(fresh_directory(name), 12, two_pulls(0.2, 0.9))));
  };
  const RunConfig straight = config_of("straight"), resumed = config_of("resumed");
  train_toy(straight, 1);
  EXPECT_EQ(train_toy(resumed, 1, 5).outcome, RunOutcome::kStopped);
  EXPECT_EQ(train_toy(resumed, 2, 3).outcome, RunOutcome::kStopped);
  train_toy(resumed, 1);
  const auto expected = read_interference(straight.directory);
  const auto found = read_interference(resumed.directory);
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].step, expected[i].step);
    EXPECT_NEAR(at_place(found[i], kAll).cosines[0], at_place(expected[i], kAll).cosines[0],
                kRounding);
  }
}

}  // namespace
}  // namespace espalier
