#include "trainer/evaluation/ridge.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "trainer/evaluation/nearest_neighbours.h"

namespace espalier {
namespace {

at::Tensor labels_of(std::vector<int64_t> labels) { return torch::tensor(std::move(labels)); }

// The slow way: as many fits as samples.
double refitted_accuracy(const at::Tensor& features, const at::Tensor& labels, int64_t classes,
                         double lambda) {
  std::vector<int64_t> answers;
  for (int64_t out = 0; out < labels.size(0); ++out) {
    const at::Tensor others = at::arange(labels.size(0)).ne(out).nonzero().flatten();
    const RidgeClassifier fit = fit_ridge(features.index_select(0, others),
                                          labels.index_select(0, others), classes, lambda);
    answers.push_back(fit.answers(features.narrow(0, out, 1)).item<int64_t>());
  }
  return share_right(labels_of(answers), labels);
}

// Three overlapping clouds of `channels` values.
std::pair<at::Tensor, at::Tensor> clouds(int64_t samples, int64_t channels) {
  torch::manual_seed(3);
  const at::Tensor labels = at::arange(samples).remainder(3);
  const at::Tensor centres = at::randn({3, channels});
  return {centres.index_select(0, labels) + 1.5 * at::randn({samples, channels}), labels};
}

TEST(Ridge, TwoPointsHaveTheWeightsOfTheFormula) {
  // Centred targets are +-1/2, so the weight is 1 / (2 + lambda).
  const RidgeClassifier fit =
      fit_ridge(torch::tensor({{-1.0}, {1.0}}), labels_of({0, 1}), 2, /*lambda=*/2);
  EXPECT_TRUE(at::allclose(fit.weights, torch::tensor({{-0.25, 0.25}}, at::kDouble)));
  EXPECT_TRUE(at::allclose(fit.bias, torch::tensor({0.5, 0.5}, at::kDouble)));
  EXPECT_EQ(fit.leave_one_out_accuracy, 0.0);  // each says what the other one is
}

TEST(Ridge, MoreChannelsThanSamplesGiveTheSameWeights) {
  const at::Tensor features = torch::tensor({{-1.0, 0.0, 0.0}, {1.0, 0.0, 0.0}});
  const RidgeClassifier fit = fit_ridge(features, labels_of({0, 1}), 2, /*lambda=*/2);
  EXPECT_TRUE(at::allclose(fit.weights.select(0, 0), torch::tensor({-0.25, 0.25}, at::kDouble)));
  EXPECT_EQ(fit.weights.narrow(0, 1, 2).abs().max().item<double>(), 0.0);
  EXPECT_EQ(fit.leave_one_out_accuracy, 0.0);
}

TEST(Ridge, LeavingOneOutInClosedFormIsLeavingOneOut) {
  for (const int64_t channels : {3, 40}) {  // fewer and more than samples
    const auto [features, labels] = clouds(30, channels);
    for (const double lambda : {0.1, 10.0}) {
      EXPECT_EQ(fit_ridge(features, labels, 3, lambda).leave_one_out_accuracy,
                refitted_accuracy(features, labels, 3, lambda))
          << channels << " channels, lambda " << lambda;
    }
  }
}

TEST(Ridge, ThePenaltyThatIsChosenIsNoWorseThanOthers) {
  const auto [features, labels] = clouds(30, 40);
  const RidgeClassifier chosen = fit_ridge(features, labels, 3);
  for (const double factor : {0.01, 0.1, 10.0, 100.0}) {
    EXPECT_GE(chosen.leave_one_out_accuracy,
              fit_ridge(features, labels, 3, factor * chosen.lambda).leave_one_out_accuracy);
  }
}

TEST(Ridge, BiasTellsClassesApartThatDoNotLieAroundTheOrigin) {
  const at::Tensor features = torch::tensor({{101.0}, {102.0}, {103.0}, {104.0}});
  const RidgeClassifier fit = fit_ridge(features, labels_of({0, 0, 1, 1}), 2);
  EXPECT_EQ(fit.leave_one_out_accuracy, 1.0);
  EXPECT_TRUE(fit.answers(torch::tensor({{100.0}, {105.0}})).equal(labels_of({0, 1})));
}

TEST(Ridge, AfterOneSampleTheAnswerIsItsLabel) {
  const RidgeClassifier fit = fit_ridge(torch::tensor({{1.0, 2.0}}), labels_of({1}), 3);
  EXPECT_TRUE(fit.answers(torch::tensor({{5.0, -7.0}})).equal(labels_of({1})));
}

TEST(Ridge, SamplesWithoutLabelsAreRefused) {
  EXPECT_THROW(fit_ridge(torch::tensor({{1.0}, {2.0}}), labels_of({0, -1}), 2), c10::Error);
}

}  // namespace
}  // namespace espalier
