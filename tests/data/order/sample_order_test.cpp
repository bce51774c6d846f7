#include "data/order/sample_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <stdexcept>
#include <vector>

namespace espalier {
namespace {

std::vector<int64_t> epoch_of(uint64_t seed, int64_t epoch, int64_t size) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < size; ++i) order.push_back(sample_at(seed, epoch * size + i, size));
  return order;
}

TEST(SampleOrder, EveryEpochIsAPermutation) {
  for (const int64_t size : {1, 2, 3, 4, 5, 7, 16, 17, 64, 100, 1517, 4096, 4097}) {
    for (const int64_t epoch : {0, 1, 2, 1000000}) {
      auto order = epoch_of(17, epoch, size);
      std::sort(order.begin(), order.end());
      for (int64_t i = 0; i < size; ++i) ASSERT_EQ(order[i], i) << "size " << size;
    }
  }
}

TEST(SampleOrder, EpochsAndSeedsDiffer) {
  EXPECT_NE(epoch_of(1, 0, 100), epoch_of(1, 1, 100));
  EXPECT_NE(epoch_of(1, 0, 100), epoch_of(2, 0, 100));
}

TEST(SampleOrder, MixesNeighbours) {
  // A random permutation of 10,000 keeps about one neighbour pair adjacent and in order.
  const auto order = epoch_of(3, 0, 10000);
  int adjacent = 0;
  for (size_t i = 1; i < order.size(); ++i) adjacent += order[i] == order[i - 1] + 1 ? 1 : 0;
  EXPECT_LT(adjacent, 10);
}

TEST(SampleOrder, FirstSampleIsSpreadOverTheSetByTheSeed) {
  std::set<int64_t> first;
  for (uint64_t seed = 0; seed < 2000; ++seed) first.insert(sample_at(seed, 0, 100));
  EXPECT_EQ(first.size(), 100U);
}

TEST(SampleOrder, StepsHoldTheSameSamplesAtAnyWorldSize) {
  // Ranks cut the positions of a step between them; nothing else about them enters.
  constexpr int64_t kBatch = 12;
  const auto samples_of_step = [](int64_t step, int64_t world) {
    std::vector<int64_t> samples;
    for (int64_t rank = 0; rank < world; ++rank)
      for (int64_t slot = rank * kBatch / world; slot < (rank + 1) * kBatch / world; ++slot)
        samples.push_back(sample_at(5, step * kBatch + slot, 100));
    return samples;
  };
  for (int64_t step = 0; step < 20; ++step)
    for (const int64_t world : {2, 3, 4})
      EXPECT_EQ(samples_of_step(step, world), samples_of_step(step, 1));
}

TEST(SampleOrder, StaysTheSameAcrossVersions) {
  // A change here silently changes every resumed run.
  EXPECT_EQ(epoch_of(42, 0, 10), (std::vector<int64_t>{9, 7, 0, 3, 6, 1, 8, 5, 4, 2}));
  EXPECT_EQ(epoch_of(42, 1, 10), (std::vector<int64_t>{2, 9, 6, 3, 5, 7, 8, 4, 0, 1}));
}

TEST(SampleOrder, WorksForVeryLargeSets) {
  constexpr int64_t kSize = int64_t{1} << 40;
  std::set<int64_t> seen;
  for (int64_t i = 0; i < 1000; ++i) {
    const int64_t sample = sample_at(9, i, kSize);
    ASSERT_GE(sample, 0);
    ASSERT_LT(sample, kSize);
    seen.insert(sample);
  }
  EXPECT_EQ(seen.size(), 1000U);
}

TEST(SampleOrder, RefusesAnEmptySetAndANegativePosition) {
  EXPECT_THROW(sample_at(1, 0, 0), std::invalid_argument);
  EXPECT_THROW(sample_at(1, -1, 10), std::invalid_argument);
}

}  // namespace
}  // namespace espalier
