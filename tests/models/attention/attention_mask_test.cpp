#include "models/attention/attention_mask.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

namespace espalier {
namespace {

std::string refusal_of(const std::vector<MaskGroup>& groups) {
  try {
    const AttentionMask mask(groups);
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "no error";
}

TEST(AttentionMask, CountsTheRowsOfItsSequences) {
  const auto packed = AttentionMask::from_lengths({2, 5, 1});
  EXPECT_EQ(packed.rows(), 8);
  EXPECT_EQ(packed.sequences(), 3);
  EXPECT_EQ(packed.longest(), 5);
  EXPECT_EQ(packed.groups()[2], (MaskGroup{7, 1, 1, MaskRule::kCausal}));
  EXPECT_TRUE(packed.is_causal());
  EXPECT_FALSE(AttentionMask::from_lengths({2, 5}, MaskRule::kFull).is_causal());
}

TEST(AttentionMask, PositionMajorSequencesTakeEveryNthRow) {
  const auto mask = AttentionMask::position_major(3, 4);
  EXPECT_EQ(mask.rows(), 12);
  EXPECT_EQ(mask.groups()[1], (MaskGroup{1, 3, 4, MaskRule::kCausal}));
}

TEST(AttentionMask, WithoutSequencesHasNoRows) {
  EXPECT_EQ(AttentionMask().rows(), 0);
  EXPECT_EQ(AttentionMask::from_lengths({}), AttentionMask());
  EXPECT_EQ(to_string(AttentionMask()), "no rows");
}

TEST(AttentionMask, PrintsTheRuleAndTheRowsOfEveryGroup) {
  const AttentionMask mask({{0, 1, 5, MaskRule::kCausal},
                            {5, 1, 1, MaskRule::kFull},
                            {6, 2, 3, MaskRule::kFull},
                            {7, 2, 2, MaskRule::kCausal}});
  EXPECT_EQ(to_string(mask), "causal 0..4, full 5, full 6,8..10, causal 7,9..9");
  const auto many = AttentionMask::from_lengths(std::vector<int64_t>(20, 1));
  EXPECT_EQ(to_string(many).substr(to_string(many).find(", and")), ", and 4 more");
}

TEST(AttentionMask, RefusesGroupsThatDoNotCoverTheRowsOnce) {
  EXPECT_EQ(refusal_of({{0, 1, 3}, {3, 1, 2}}), "no error");
  EXPECT_NE(refusal_of({{0, 1, 3}, {3, 1, 0}}).find("empty group at row 3"), std::string::npos);
  EXPECT_NE(refusal_of({{0, 1, 3}, {2, 1, 2}}).find("row 2 is in two groups"), std::string::npos);
  EXPECT_NE(refusal_of({{0, 1, 3}, {4, 1, 2}}).find("\"causal 4..5\" leaves the 5 rows"),
            std::string::npos);
  EXPECT_NE(refusal_of({{-1, 1, 3}}).find("leaves the 3 rows"), std::string::npos);
}

TEST(AttentionMask, RefusesGroupsThatSeeNothingOrWhatIsNotThere) {
  EXPECT_NE(refusal_of({{0, 1, 3, MaskRule::kNone}}).find("\"query 0..2\" sees nothing"),
            std::string::npos);
  EXPECT_NE(
      refusal_of({{0, 1, 3, MaskRule::kFull, {1}}}).find("sees group 1, which is not another"),
      std::string::npos);
  EXPECT_NE(
      refusal_of({{0, 1, 3, MaskRule::kFull, {0}}}).find("sees group 0, which is not another"),
      std::string::npos);
  EXPECT_NE(refusal_of({{0, 1, 3, MaskRule::kFull, {1, 1}}, {3, 1, 2}}).find("sees group 1 twice"),
            std::string::npos);
}

TEST(AttentionMask, SamplesRepeatOneTable) {
  const AttentionMask one({{0, 1, 3, MaskRule::kCausal}, {3, 1, 2, MaskRule::kFull, {0}}});
  const AttentionMask four = one.repeated(2).repeated(2);
  EXPECT_EQ(four.rows(), 20);
  EXPECT_EQ(four.sequences(), 8);
  EXPECT_EQ(four.blocks(), 12);
  EXPECT_EQ(four.visible(), 4 * (6 + 4 + 6));
  EXPECT_EQ(to_string(four), "causal 0..2, full 3..4 sees 0; 4 samples");
}

}  // namespace
}  // namespace espalier
