#include "launch/protocol/failure_class.h"

#include <gtest/gtest.h>

namespace espalier {
namespace {

TEST(FailureClass, HasANameThatIsParsedBack) {
  for (int i = 0; i <= static_cast<int>(FailureClass::kHang); ++i) {
    const auto failure = static_cast<FailureClass>(i);
    EXPECT_EQ(parse_failure_class(name_of(failure)), failure) << name_of(failure);
  }
  EXPECT_FALSE(parse_failure_class("bad luck").has_value());
}

TEST(FailureClass, SaysWhetherARelaunchIsOfUseAsItsExitCodeDoes) {
  for (int i = 0; i <= static_cast<int>(FailureClass::kHang); ++i) {
    const auto failure = static_cast<FailureClass>(i);
    EXPECT_EQ(is_relaunch_of_use(failure), is_relaunch_of_use_after(exit_code_of(failure)))
        << name_of(failure);
  }
}

// Published: scripts and schedulers rely on these numbers.
TEST(ExitCodes, AreThePublishedOnes) {
  EXPECT_EQ(kExitDone, 0);
  EXPECT_EQ(exit_code_of(FailureClass::kConfig), 64);
  EXPECT_EQ(exit_code_of(FailureClass::kData), 64);
  EXPECT_EQ(exit_code_of(FailureClass::kWeights), 64);
  EXPECT_EQ(exit_code_of(FailureClass::kInternal), 70);
  EXPECT_EQ(exit_code_of(FailureClass::kHang), 70);
  EXPECT_EQ(exit_code_of(FailureClass::kStorage), 70);
  EXPECT_EQ(kExitStopped, 75);
  EXPECT_EQ(exit_code_of(FailureClass::kOutOfMemory), 93);
  EXPECT_EQ(exit_code_of(FailureClass::kNumeric), 93);
  EXPECT_EQ(exit_code_of(FailureClass::kDoNotRequeue), 93);
}

}  // namespace
}  // namespace espalier
