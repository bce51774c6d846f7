#include "data/order/random.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>

namespace espalier {
namespace {

using Words = std::array<uint32_t, 4>;

// Known answers published with Random123 (kat_vectors, philox4x32 with 10 rounds).
TEST(Philox, GivesThePublishedAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(CounterRandom, DependsOnEveryBitOfItsArguments) {
  std::set<uint64_t> values = {counter_random(0, 0, 0)};
  for (int bit = 0; bit < 64; ++bit) {
    values.insert(counter_random(uint64_t{1} << bit, 0, 0));
    values.insert(counter_random(0, uint64_t{1} << bit, 0));
    values.insert(counter_random(0, 0, uint64_t{1} << bit));
  }
  EXPECT_EQ(values.size(), 1U + 3 * 64);
}

TEST(CounterRng, RepeatsItselfFromTheSameNumbers) {
  CounterRng first(1, 2);
  CounterRng second(1, 2);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(first.bits(), second.bits());
  EXPECT_NE(CounterRng(1, 2).bits(), CounterRng(1, 3).bits());
}

TEST(CounterRng, UniformHasTheMomentsOfTheUnitInterval) {
  CounterRng rng(7, 0);
  constexpr int kDraws = 100000;
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double value = rng.uniform();
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    sum += value;
    squares += value * value;
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 0.005);
  EXPECT_NEAR(squares / kDraws, 1.0 / 3, 0.005);
}

TEST(CounterRng, NormalHasMeanZeroAndVarianceOne) {
  CounterRng rng(7, 1);
  constexpr int kDraws = 100000;
  double sum = 0;
  double squares = 0;
  double fourth = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double value = rng.normal();
    ASSERT_TRUE(std::isfinite(value));
    sum += value;
    squares += value * value;
    fourth += value * value * value * value;
  }
  EXPECT_NEAR(sum / kDraws, 0.0, 0.015);
  EXPECT_NEAR(squares / kDraws, 1.0, 0.02);
  EXPECT_NEAR(fourth / kDraws, 3.0, 0.2);
}

TEST(CounterRng, BelowFavoursNoValue) {
  CounterRng rng(7, 2);
  std::array<int, 10> counts{};
  for (int i = 0; i < 100000; ++i) ++counts.at(rng.below(10));
  for (const int count : counts) EXPECT_NEAR(count, 10000, 400);
  EXPECT_EQ(rng.below(1), 0U);
}

TEST(CombineStreams, KeepsNeighboursApart) {
  std::set<uint64_t> streams;
  for (uint64_t step = 0; step < 100; ++step)
    for (uint64_t slot = 0; slot < 100; ++slot) streams.insert(combine_streams(step, slot));
  EXPECT_EQ(streams.size(), 10000U);
}

}  // namespace
}  // namespace espalier
