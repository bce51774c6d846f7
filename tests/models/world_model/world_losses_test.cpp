#include "models/world_model/world_losses.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/models/close.h"
#include "tests/models/finite_differences.h"
#include "tests/models/world_model/golden.h"

namespace espalier {
namespace {

TEST(Silog, IsTheNumberOfTheReference) {
  const auto prediction = torch::tensor({{1.0, 2.0, 4.0}});
  const auto target = torch::tensor({{2.0, 2.0, 2.0}});
  EXPECT_NEAR(silog(prediction, target).item<double>(), 0.565952, 1e-6);
  // With lambda 1 a common factor costs nothing, with 1/2 it does.
  EXPECT_NEAR(silog(3 * target, target, 1.0).item<double>(), 0, 1e-3);
  EXPECT_NEAR(silog(3 * target, target).item<double>(), std::log(3.0) / std::sqrt(2.0), 1e-5);
}

TEST(Silog, AddsUpOverRowsButNotOverPixels) {
  torch::manual_seed(1);
  const auto prediction = torch::rand({4, 9}) + 0.1, target = torch::rand({4, 9}) + 0.1;
  double sum = 0;
  for (int64_t r = 0; r < 4; ++r) {
    sum += silog(prediction.slice(0, r, r + 1), target.slice(0, r, r + 1)).item<double>();
  }
  EXPECT_NEAR(silog(prediction, target).item<double>(), sum, 1e-5);
  EXPECT_GT(std::abs(silog(prediction.view({1, -1}), target.view({1, -1})).item<double>() - sum),
            0.1);
}

TEST(Silog, GradientIsFiniteWithoutErrorAndBelowZero) {
  auto prediction = torch::tensor({{0.3, 0.7}, {-0.2, 0.5}}).requires_grad_();
  const auto target = torch::tensor({{0.3, 0.7}, {0.4, 0.5}});
  const auto loss = silog(prediction, target);
  loss.backward();
  EXPECT_TRUE(torch::isfinite(prediction.grad()).all().item<bool>()) << prediction.grad();
  EXPECT_EQ(prediction.grad()[0].abs().sum().item<double>(), 0);
}

TEST(NormalisedPatches, UseTheUnbiasedVariance) {
  const auto image = torch::arange(4, torch::kFloat).view({1, 1, 2, 2});
  EXPECT_TRUE(torch::allclose(normalised_patches(image, 2),
                              torch::tensor({{{-1.161895f, -.387298f, .387298f, 1.161895f}}}), 0,
                              2e-6));
}

// Frames of 4 x 4 patches of 2 x 2 pixels.
TEST(DynamicRegion, MarksPatchesWhoseShareOfChangedPixelsIsAboveTheThreshold) {
  const auto now = torch::rand({1, 3, 8, 8});
  auto future = now.clone();
  future[0][1][2][4] += 0.5f;   // one pixel, one channel: patch (1, 2)
  future[0][0][6][1] += 0.05f;  // too little: patch (3, 0)
  DynamicRegionOptions options{.patch = 2, .pixel_threshold = 0.1, .share = 0.2};
  auto expected = torch::zeros({4, 4});
  expected[1][2] = 1;
  EXPECT_TRUE(torch::equal(dynamic_region(now, future, options).view({4, 4}), expected));
  options.dilate = true;
  expected.slice(0, 0, 3).slice(1, 1, 4).fill_(1);
  EXPECT_TRUE(torch::equal(dynamic_region(now, future, options).view({4, 4}), expected));
  options.share = 0.25;  // a quarter is not more than a quarter
  EXPECT_EQ(dynamic_region(now, future, options).sum().item<double>(), 0);
}

TEST(MotionRegion, TakesTheNormOfTheMeanOfFourTracks) {
  auto displacement = torch::zeros({1, 4, 4, 2});
  displacement[0][0][2] = torch::tensor({3.0f, 4.0f});  // mean of its four: norm 1.25
  displacement[0][2][0] = torch::tensor({2.0f, 0.0f});  // cancels with
  displacement[0][3][1] = torch::tensor({-2.0f, 0.0f});
  EXPECT_TRUE(torch::equal(motion_region(displacement, 1.0, false),
                           torch::tensor({{0.0f, 1.0f, 0.0f, 0.0f}})));
  EXPECT_EQ(motion_region(displacement, 1.0, true).sum().item<double>(), 4);
}

TEST(MaskedSquaredError, OfAllElementsIsThePublishedMean) {
  torch::manual_seed(2);
  const auto prediction = torch::randn({2, 5, 3}), target = torch::randn({2, 5, 3});
  const auto mask = torch::tensor({{1, 0, 0, 1, 0}, {0, 0, 0, 0, 1}}, torch::kFloat);
  const auto m = mask.unsqueeze(2);
  const double sum = masked_squared_error(prediction, target, mask).item<double>();
  EXPECT_NEAR(sum / masked_count(mask, 3, MaskedMean::kAllElements),
              torch::mse_loss(prediction * m, target * m).item<double>(), 1e-6);
  EXPECT_EQ(masked_count(mask, 3, MaskedMean::kMaskedElements), 9);
}

TEST(CosineDistance, EqualsTorchWithGradient) {
  const auto prediction = golden("cosine.prediction").requires_grad_();
  const auto loss = cosine_distance(prediction, golden("cosine.target")) / 6;
  loss.backward();
  EXPECT_TRUE(are_close(loss, golden("cosine.loss"), 1e-5));
  EXPECT_TRUE(are_close(prediction.grad(), golden("cosine.gradient"), 1e-4));
}

class InfoNceTest : public testing::Test {
 protected:
  InfoNceTest() { torch::manual_seed(3); }
  at::Tensor targets_ = torch::randn({8, 16});
};

TEST_F(InfoNceTest, OfHalvesWithAllCandidatesAddsUpToTheWhole) {
  const auto prediction = torch::randn({8, 16}), own = torch::arange(8);
  const double whole = info_nce(prediction, targets_, own, 0.1).item<double>();
  double halves = 0;
  for (const int64_t first : {0, 4}) {
    halves += info_nce(prediction.slice(0, first, first + 4), targets_,
                       own.slice(0, first, first + 4), 0.1)
                  .item<double>();
  }
  EXPECT_NEAR(halves, whole, 1e-4);
}

TEST_F(InfoNceTest, IsLogOfTheCandidatesByChanceAndNothingWhenRight) {
  const auto own = torch::arange(8);
  EXPECT_NEAR(info_nce(torch::ones({8, 16}), torch::ones({8, 16}), own, 0.1).item<double>() / 8,
              std::log(8.0), 1e-5);
  EXPECT_LT(info_nce(5 * targets_, targets_, own, 0.01).item<double>(), 1e-3);
}

TEST_F(InfoNceTest, GradientsAreFiniteDifferencesAndReachPredictionsOnly) {
  const auto prediction = torch::randn({4, 6}, torch::kDouble).requires_grad_();
  const auto candidates = torch::randn({5, 6}, torch::kDouble).requires_grad_();
  const auto own = torch::tensor({1, 0, 4, 4}, torch::kLong);
  expect_finite_differences({prediction},
                            [&] { return info_nce(prediction, candidates, own, 0.5); });
  info_nce(prediction, candidates, own, 0.5).backward();
  EXPECT_FALSE(candidates.grad().defined());
}

TEST(TrajectoryError, ScalesTwiceOnlyWhenAsked) {
  const auto prediction = torch::tensor({1.0, 2.0}), target = torch::tensor({0.0, 4.0});
  EXPECT_NEAR(trajectory_error(prediction, target).item<double>(), 5, 1e-6);
  EXPECT_NEAR(trajectory_error(prediction, target, true).item<double>(), 0.5, 1e-6);
}

}  // namespace
}  // namespace espalier
