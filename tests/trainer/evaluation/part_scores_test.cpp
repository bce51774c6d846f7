#include "trainer/evaluation/part_scores.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace espalier {
namespace {

at::Tensor longs(const std::vector<std::vector<int64_t>>& rows) {
  std::vector<at::Tensor> tensors;
  for (const auto& row : rows) tensors.push_back(torch::tensor(row, at::kLong));
  return at::stack(tensors);
}

at::Tensor bools(const std::vector<std::vector<int64_t>>& rows) {
  return longs(rows).to(at::kBool);
}

// Pictures of four pixels: the first two show part 0 (3 shapes), the last two part 1 (3 colours).
at::Tensor picture(int64_t shape, int64_t colour) {
  return torch::tensor({4.0F * static_cast<float>(shape), -4.0F * static_cast<float>(shape),
                        static_cast<float>(colour), static_cast<float>(colour)});
}

at::Tensor pictures(const at::Tensor& labels) {
  std::vector<at::Tensor> all;
  for (int64_t i = 0; i < labels.size(0); ++i) {
    all.push_back(picture(labels[i][0].item<int64_t>(), labels[i][1].item<int64_t>()));
  }
  return at::stack(all);
}

const at::Tensor kAll =
    longs({{0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, 2}, {2, 0}, {2, 1}, {2, 2}});
// Without (0, 2), (1, 1) and (2, 0).
const at::Tensor kTrained = longs({{0, 0}, {0, 1}, {1, 0}, {1, 2}, {2, 1}, {2, 2}});
const at::Tensor kNever = longs({{0, 2}, {1, 1}, {2, 0}});

TEST(PartsRight, AllAndEachByItselfAndNeverAnUnknownOne) {
  const at::Tensor right =
      parts_right(longs({{1, 2}, {1, 0}, {-1, 2}}), longs({{1, 2}, {1, 2}, {-1, 2}}));
  EXPECT_TRUE(right.equal(bools({{1, 1, 1}, {0, 1, 0}, {0, 0, 1}}))) << right;
}

TEST(AnswersFromFeatures, TheNearestPictureNeverAnswersWithANewCombination) {
  const PartAnswers answers = answers_from_features(pictures(kTrained), kTrained, pictures(kNever));
  EXPECT_EQ(parts_right(answers.nearest, kNever).select(1, 0).sum().item<int64_t>(), 0);
}

TEST(AnswersFromFeatures, RidgeAnswersEachPartByItself) {
  // One feature for each value: a linear reading has each part of pictures it never saw.
  const auto features = [](const at::Tensor& labels) {
    return at::one_hot(labels, 3).flatten(1).to(at::kFloat);
  };
  const PartAnswers answers = answers_from_features(features(kTrained), kTrained, features(kNever));
  EXPECT_TRUE(answers.ridge.equal(kNever)) << answers.ridge;
}

TEST(SumsOfParts, ArePicturesWhosePartsAddUp) {
  EXPECT_TRUE(
      at::allclose(sums_of_parts(pictures(kTrained), kTrained, kNever), pictures(kNever), 0, 0.02));
}

TEST(PictureJudge, TruePicturesShowAllTheirParts) {
  EXPECT_TRUE(
      PictureJudge(pictures(kAll), kAll).right(pictures(kNever), kNever).all().item<bool>());
}

TEST(PictureJudge, APartIsJudgedAmongPicturesWithTheOtherPartsAsWanted) {
  const PictureJudge judge(pictures(kAll), kAll);
  // Wanted is (0, 2): the right shape in a wrong colour, the other way round, and a third shape
  // whose colour is right.
  const at::Tensor drawn = pictures(longs({{0, 1}, {1, 2}, {2, 2}}));
  const at::Tensor right = judge.right(drawn, longs({{0, 2}, {0, 2}, {0, 2}}));
  EXPECT_TRUE(right.equal(bools({{0, 1, 0}, {0, 0, 1}, {0, 0, 1}}))) << right;
}

TEST(PictureJudge, ChanceIsOneOfThePicturesCompared) {
  const PictureJudge judge(pictures(kTrained), kTrained);
  const at::Tensor chance = judge.chance(longs({{0, 1}}));
  EXPECT_TRUE(at::allclose(chance, torch::tensor({{1.0 / 6, 1.0 / 2, 1.0 / 2}}, at::kDouble)));
}

TEST(AddPartScores, OneMetricForAllPartsAndForEachOfGroupsThatHaveSamples) {
  Sample one, other;
  one.fields = {{"parts", {"shape", "colour"}}, {"shape", {"disc"}}, {"colour", {"red"}}};
  other.fields = {{"shape", {"ring"}}, {"colour", {"blue"}}};
  const Combinations combinations({one, other});
  const at::Tensor labels = longs({{0, 1}, {1, 0}});
  std::vector<PartGroup> groups = {
      part_group(PartPictures::kNew, labels.narrow(0, 0, 0), at::ones({0, 3}, at::kBool)),
      part_group(PartPictures::kNeverSeen, labels, bools({{0, 1, 0}, {1, 1, 1}}))};
  groups[1].beside = {
      {.label = "chance", .chances = at::full({2, 3}, 0.25, at::kDouble)},
      {.label = "ceiling", .right = at::ones({2, 3}, at::kBool), .is_baseline = false}};
  Section section;
  add_part_scores(section, combinations, "drawings", groups);

  ASSERT_EQ(section.metrics.size(), 3);
  EXPECT_EQ(section.metrics[0].name, "never_seen_all");
  EXPECT_EQ(section.metrics[0].value, 0.5);
  EXPECT_TRUE(section.metrics[0].is_headline);
  EXPECT_EQ(section.metrics[1].name, "never_seen_shape");
  EXPECT_EQ(section.metrics[1].value, 1.0);
  ASSERT_EQ(section.metrics[0].baselines.size(), 1);  // nothing has to beat a ceiling
  EXPECT_EQ(section.metrics[0].baselines[0].value, 0.25);
  ASSERT_EQ(section.tables.size(), 1);
  EXPECT_EQ(section.tables[0].columns.size(), 6);
  EXPECT_EQ(section.tables[0].rows.size(), 3);
}

}  // namespace
}  // namespace espalier
