#include "trainer/evaluation/nearest_neighbours.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace espalier {
namespace {

at::Tensor labels_of(std::vector<int64_t> labels) { return torch::tensor(std::move(labels)); }

TEST(NearestNeighbours, BytesAndFloatsOfTheSameImageAreTheSameFeatures) {
  const at::Tensor bytes = torch::tensor({0, 255, 51, 204}, at::kByte).view({1, 1, 2, 2});
  const at::Tensor floats = torch::tensor({-1.0F, 1.0F, -0.6F, 0.6F}).view({1, 1, 2, 2});
  EXPECT_TRUE(at::allclose(pixel_features(bytes), pixel_features(floats)));
  EXPECT_EQ(pixel_features(bytes).sizes(), (std::vector<int64_t>{1, 4}));
}

TEST(NearestNeighbours, DirectionCountsAndLengthDoesNot) {
  const at::Tensor reference = torch::tensor({{1.0F, 0.0F}, {0.0F, 100.0F}});
  const at::Tensor queries = torch::tensor({{50.0F, 1.0F}, {0.001F, 0.01F}});
  const at::Tensor answers = nearest_neighbour_answers(reference, labels_of({3, 7}), queries, 1);
  EXPECT_TRUE(answers.equal(labels_of({3, 7})));
}

TEST(NearestNeighbours, TheMajorityOfTheKNearestAnswers) {
  const at::Tensor reference =
      torch::tensor({{1.0F, 0.0F}, {1.0F, 0.2F}, {1.0F, 0.3F}, {-1.0F, 0.0F}});
  const at::Tensor query = torch::tensor({{1.0F, 0.0F}});
  const at::Tensor labels = labels_of({0, 1, 1, 0});
  EXPECT_TRUE(nearest_neighbour_answers(reference, labels, query, 1).equal(labels_of({0})));
  EXPECT_TRUE(nearest_neighbour_answers(reference, labels, query, 3).equal(labels_of({1})));
}

TEST(NearestNeighbours, EqualVotesGoToTheNearer) {
  const at::Tensor reference = torch::tensor({{1.0F, 0.3F}, {1.0F, 0.1F}});
  const at::Tensor query = torch::tensor({{1.0F, 0.0F}});
  const at::Tensor answers = nearest_neighbour_answers(reference, labels_of({0, 1}), query, 2);
  EXPECT_TRUE(answers.equal(labels_of({1})));
}

TEST(NearestNeighbours, ALabelThatNoReferenceHasCountsAsWrong) {
  EXPECT_EQ(share_right(labels_of({0, 1, 1, 0}), labels_of({0, 1, -1, 1})), 0.5);
  EXPECT_EQ(share_right(labels_of({-1}), labels_of({-1})), 0.0);
  EXPECT_EQ(share_right(labels_of({}), labels_of({})), 0.0);
}

TEST(NearestNeighbours, AccuracyIsTheShareOfRightAnswers) {
  const at::Tensor reference = torch::tensor({{1.0F, 0.0F}, {0.0F, 1.0F}});
  const at::Tensor queries = torch::tensor({{1.0F, 0.1F}, {0.1F, 1.0F}, {1.0F, 0.2F}});
  EXPECT_NEAR(
      nearest_neighbour_accuracy(reference, labels_of({0, 1}), queries, labels_of({0, 1, 1}), 1),
      2.0 / 3, 1e-12);
}

TEST(MajorityAccuracy, IsTheShareOfTheMostFrequentReferenceLabel) {
  EXPECT_EQ(majority_accuracy(labels_of({2, 2, 0}), labels_of({2, 0, 1, 2})), 0.5);
}

}  // namespace
}  // namespace espalier
