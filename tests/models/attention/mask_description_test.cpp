#include "models/attention/mask_description.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/models/attention/drawn_mask.h"

namespace espalier {
namespace {

TokenGroup group(const std::string& name, int64_t tokens, std::vector<SightRule> sees = {},
                 GroupKind kind = GroupKind::kFull) {
  return {.name = name, .kind = kind, .tokens = tokens, .sees = std::move(sees)};
}

std::string refusal_of(MaskDescription description) {
  int line = 10;
  for (TokenGroup& one : description.groups) one.line = line++;
  try {
    lay_out(description);
  } catch (const MaskError& error) {
    return std::to_string(error.line) + ": " + error.what();
  }
  return "no error";
}

TEST(MaskDescription, GroupsLieInTheirOrderInEachTimestepAndOnceGroupsAround) {
  TokenGroup words = group("words", 2);
  words.is_once = true;
  TokenGroup end = group("end", 1, {{{"words", "image"}, -kAlways, kAlways}});
  end.is_once = true;
  const MaskLayout layout = lay_out({2, {words, group("image", 1, {{{"words"}, 0, 0}}), end}});
  EXPECT_EQ(drawn(layout.mask),
            "##...\n"
            "##...\n"
            "###..\n"
            "##.#.\n"
            "#####\n");
}

TEST(MaskDescription, RulesReachTimestepsBeforeAndAfter) {
  const MaskLayout layout = lay_out(
      {3,
       {group("state", 1),
        group("query", 1, {{{"state"}, -kAlways, -1}, {{"query"}, 0, 0}}, GroupKind::kQuery),
        group("goal", 1, {{{"state"}, 1, 1}})}});
  EXPECT_EQ(drawn(layout.mask),
            "#........\n"
            ".#.......\n"
            "..##.....\n"
            "...#.....\n"
            "#...#....\n"
            ".....##..\n"
            "......#..\n"
            "#..#...#.\n"
            "........#\n");
}

TEST(MaskDescription, AGroupOfNoTokensIsOffAndMayStillBeNamed) {
  const MaskLayout layout = lay_out({1, {group("a", 2, {{{"b"}, 0, 0}}), group("b", 0)}});
  EXPECT_EQ(layout.placed.size(), 1U);
  EXPECT_EQ(layout.mask.rows(), 2);
}

TEST(MaskDescription, NamesTheGroupThatIsWrong) {
  EXPECT_EQ(refusal_of({1, {group("a", 1), group("a", 1)}}), "11: group \"a\" is there twice");
  EXPECT_EQ(refusal_of({1, {group("a", 1), group("b", 1, {{{"c"}, 0, 0}})}}),
            "11: group \"b\" sees \"c\", and there is no group of that name; groups: a, b");
  EXPECT_EQ(refusal_of({1, {group("a", 1, {}, GroupKind::kNoise), group("b", 1, {{{"a"}, 0, 0}})}}),
            "11: group \"b\" sees \"a\", which is of kind noise: no other group may see it");
  EXPECT_EQ(refusal_of({1, {group("a", 1), group("b", 1, {{{"a"}, 0, 0}}, GroupKind::kIsolated)}}),
            "11: group \"b\" is isolated and sees no other group");
  EXPECT_EQ(
      refusal_of({2, {group("a", 1), group("b", 1, {{{"a"}, -kAlways, -1}}, GroupKind::kQuery)}})
          .substr(0, 40),
      "11: group \"b\" sees nothing at timestep 0");
  EXPECT_EQ(refusal_of({1, {}}), "0: a mask needs at least one group");
  EXPECT_EQ(refusal_of({1, {group("a", 0)}}), "0: every group of the mask has 0 tokens");
}

TEST(MaskDescription, RowsThatOverlapOrAreLeftOutNameBothGroups) {
  const auto with_rows = [](int64_t first, int64_t tokens, const std::string& name) {
    TokenGroup one = group(name, tokens);
    one.first_row = first;
    return one;
  };
  EXPECT_EQ(refusal_of({1, {with_rows(0, 4, "a"), with_rows(3, 2, "b")}}),
            "11: group \"b\" has rows 3..4, which overlap group \"a\" on line 10");
  EXPECT_EQ(refusal_of({1, {with_rows(0, 4, "a"), with_rows(5, 2, "b")}}),
            "11: group \"b\" has rows 5..6: nobody has row 4");
  EXPECT_EQ(refusal_of({1, {with_rows(2, 4, "a"), with_rows(0, 2, "b")}}), "no error");
  EXPECT_EQ(refusal_of({2, {with_rows(0, 4, "a")}}).substr(0, 12), "10: group \"a");
}

}  // namespace
}  // namespace espalier
