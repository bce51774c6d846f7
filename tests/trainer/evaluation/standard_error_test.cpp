#include "trainer/evaluation/standard_error.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace espalier {
namespace {

TEST(StandardError, OfAShareShrinksWithTheRootOfTheSamples) {
  EXPECT_DOUBLE_EQ(standard_error_of_share(0.5, 100), 0.05);
  EXPECT_DOUBLE_EQ(standard_error_of_share(0.5, 400), 0.025);
  EXPECT_EQ(standard_error_of_share(1.0, 10), 0.0);
}

TEST(StandardError, OfAMeanIsTheSpreadOfTheSamplesOverTheRootOfTheirNumber) {
  // Mean 5, squares 9 + 1 + 1 + 9 = 20, variance 20 / 3.
  const std::vector<double> values = {2, 4, 6, 8};
  EXPECT_DOUBLE_EQ(standard_error_of_mean(values), std::sqrt(20.0 / 3 / 4));
}

TEST(StandardError, IsUnknownWhereThereAreTooFewSamples) {
  EXPECT_TRUE(std::isnan(standard_error_of_share(0.5, 0)));
  EXPECT_TRUE(std::isnan(standard_error_of_mean({})));
  EXPECT_TRUE(std::isnan(standard_error_of_mean(std::vector<double>{3})));
}

}  // namespace
}  // namespace espalier
