#include "trainer/evaluation/wilson.h"

#include <gtest/gtest.h>

namespace espalier {
namespace {

// Worked out from the formula in another language, in double.
TEST(WilsonInterval, IsThatOfAReferenceImplementation) {
  const Interval most = wilson_interval(8, 10), none = wilson_interval(0, 10),
                 all = wilson_interval(100, 100);
  EXPECT_NEAR(most.low, 0.4901625, 1e-6);
  EXPECT_NEAR(most.high, 0.9433178, 1e-6);
  EXPECT_DOUBLE_EQ(none.low, 0);
  EXPECT_NEAR(none.high, 0.2775328, 1e-6);
  EXPECT_NEAR(all.low, 0.9630065, 1e-6);
  EXPECT_DOUBLE_EQ(all.high, 1);
}

TEST(WilsonInterval, SaysNothingWithoutTrials) {
  EXPECT_EQ(wilson_interval(0, 0).low, 0);
  EXPECT_EQ(wilson_interval(0, 0).high, 1);
}

}  // namespace
}  // namespace espalier
