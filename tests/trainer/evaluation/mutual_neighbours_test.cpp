#include "trainer/evaluation/mutual_neighbours.h"

#include <cmath>

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace espalier {
namespace {

constexpr NeighbourOptions kUnclamped = {.neighbours = 10, .clamp_quantile = 1};

at::Tensor gaussian(int64_t rows, int64_t width, uint64_t seed) {
  auto generator = torch::make_generator<at::CPUGeneratorImpl>(seed);
  return torch::randn({rows, width}, generator);
}

at::Tensor at_angles(const std::vector<double>& degrees) {
  const at::Tensor radians = torch::tensor(degrees, at::kDouble) * (M_PI / 180);
  return torch::stack({radians.cos(), radians.sin()}, 1);
}

// Sets by hand, k = 2: A [12|02|13|24|35|43], B [21|32|01|14|35|43].
TEST(MutualNeighbours, CountsCommonNeighboursOfPointsOnACircle) {
  const at::Tensor a = at_angles({0, 10, 31, 60, 100, 147});
  const at::Tensor b = at_angles({0, 50, 11, 72, 101, 140});
  EXPECT_NEAR(mutual_neighbours(a, b, {.neighbours = 1, .clamp_quantile = 1}), 1.0 / 3, 1e-12);
  EXPECT_NEAR(mutual_neighbours(a, b, {.neighbours = 2, .clamp_quantile = 1}), 0.75, 1e-12);
}

TEST(MutualNeighbours, FeaturesAreLikeThemselves) {
  const at::Tensor a = gaussian(64, 16, 1);
  EXPECT_EQ(mutual_neighbours(a, a), 1);
}

TEST(MutualNeighbours, IsSymmetric) {
  const at::Tensor a = gaussian(64, 16, 1), b = a + gaussian(64, 16, 2);
  const double score = mutual_neighbours(a, b);
  EXPECT_EQ(score, mutual_neighbours(b, a));
  EXPECT_GT(score, 0.2);
  EXPECT_LT(score, 1);
}

TEST(MutualNeighbours, DoesNotSeeRotationsAndLengthsOfRows) {
  const at::Tensor a = gaussian(64, 16, 1).to(at::kDouble);
  const at::Tensor b = a + gaussian(64, 16, 2).to(at::kDouble);
  const at::Tensor rotation = std::get<0>(at::linalg_qr(gaussian(16, 16, 3).to(at::kDouble)));
  const at::Tensor lengths = gaussian(64, 1, 4).abs().to(at::kDouble) + 0.1;
  const double score = mutual_neighbours(a, b, kUnclamped);
  EXPECT_EQ(mutual_neighbours(at::mm(a, rotation), b, kUnclamped), score);
  EXPECT_EQ(mutual_neighbours(a, b * lengths, kUnclamped), score);
}

TEST(MutualNeighbours, ClampedOrNotDoesNotSeeAScaleOfAllNumbers) {
  const at::Tensor a = gaussian(64, 16, 1).to(at::kDouble);
  const at::Tensor b = a + gaussian(64, 16, 2).to(at::kDouble);
  EXPECT_EQ(mutual_neighbours(a * 8, b), mutual_neighbours(a, b));
}

// Sizes sorted: 1 1 1 1 1 1 1 1 1 100 | element int(0.5 * 10) is 1, int(0.95 * 10) is 100.
TEST(MutualNeighbours, ClampsToTheElementAtTheQuantile) {
  const at::Tensor a = torch::tensor({{1., 1.}, {1., 100.}, {1., -1.}, {-1., -1.}, {-1., 1.}});
  const at::Tensor clamped = torch::tensor({{1., 1.}, {1., 1.}, {1., -1.}, {-1., -1.}, {-1., 1.}});
  const NeighbourOptions half = {.neighbours = 1, .clamp_quantile = 0.5};
  const NeighbourOptions most = {.neighbours = 1, .clamp_quantile = 0.95};
  const at::Tensor other = gaussian(5, 3, 1);
  EXPECT_EQ(mutual_neighbours(a, other, half),
            mutual_neighbours(clamped, other, {.neighbours = 1, .clamp_quantile = 0.5}));
  EXPECT_EQ(mutual_neighbours(a, other, most),
            mutual_neighbours(a, other, {.neighbours = 1, .clamp_quantile = 1}));
}

TEST(MutualNeighbours, AllOthersAreCommonWhereAllAreNeighbours) {
  const at::Tensor a = gaussian(12, 4, 1), b = gaussian(12, 6, 2);
  EXPECT_EQ(mutual_neighbours(a, b, {.neighbours = 11}), 1);
  EXPECT_EQ(mutual_neighbours(a, b, {.neighbours = 50}), 1);  // no more than there are
}

TEST(MutualNeighbours, IndependentFeaturesShareWhatChanceGives) {
  double sum = 0;
  constexpr int kSeeds = 20;
  for (int seed = 0; seed < kSeeds; ++seed) {
    sum += mutual_neighbours(gaussian(512, 64, static_cast<uint64_t>(2 * seed)),
                             gaussian(512, 64, static_cast<uint64_t>(2 * seed + 1)));
  }
  // k / (N - 1) = 0.01957; one seed has a deviation of about 0.0024.
  EXPECT_NEAR(sum / kSeeds, 10.0 / 511, 4 * 0.0024 / std::sqrt(kSeeds));
}

TEST(AlignmentBaseline, IsChanceWhateverTheFeaturesAre) {
  const at::Tensor a = gaussian(256, 32, 1), b = a + 0.1 * gaussian(256, 32, 2);
  const Alignment found = alignment_of(a, b, {}, 20, /*seed=*/7);
  EXPECT_EQ(found.score, mutual_neighbours(a, b));
  EXPECT_GT(found.score, 0.5);
  EXPECT_NEAR(found.baseline, 10.0 / 255, 0.005);
  EXPECT_GT(found.baseline_deviation, 0);
  EXPECT_LT(found.baseline_deviation, 0.01);
}

TEST(AlignmentBaseline, IsTheSameForTheSameSeed) {
  const at::Tensor a = gaussian(40, 8, 1), b = gaussian(40, 8, 2);
  EXPECT_EQ(alignment_of(a, b, {}, 5, 7).baseline, alignment_of(a, b, {}, 5, 7).baseline);
  EXPECT_NE(alignment_of(a, b, {}, 5, 7).baseline, alignment_of(a, b, {}, 5, 8).baseline);
}

TEST(MutualNeighbours, RefusesOtherShapesWithBothOfThem) {
  try {
    mutual_neighbours(gaussian(5, 4, 1), gaussian(6, 4, 1));
    FAIL() << "features of other samples were taken";
  } catch (const c10::Error& error) {
    EXPECT_NE(std::string(error.what()).find("[5, 4] and [6, 4]"), std::string::npos);
  }
}

}  // namespace
}  // namespace espalier
