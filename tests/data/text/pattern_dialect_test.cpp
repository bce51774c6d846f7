#include "data/text/pattern_dialect.h"

#include <gtest/gtest.h>

#include "data/errors.h"
#include "data/text/split_pattern.h"

namespace espalier {
namespace {

std::vector<std::string> pieces_of(const std::string& pattern, std::string_view text) {
  std::vector<std::string> pieces;
  SplitPattern(pattern).for_each_piece(text, [&](std::string_view p) { pieces.emplace_back(p); });
  return pieces;
}

using Pieces = std::vector<std::string>;

TEST(SplitPattern, KeepsMatchesAndWhatIsBetweenThem) {
  EXPECT_EQ(pieces_of(R"(\p{N}{1,3})", "a12345b"), (Pieces{"a", "123", "45", "b"}));
  EXPECT_EQ(pieces_of("x*", "axb"), (Pieces{"a", "x", "b"}));
  EXPECT_EQ(pieces_of("(?i:'s|'re)", "a'S b'Re"), (Pieces{"a", "'S", " b", "'Re"}));
}

TEST(SplitPattern, KnowsLettersAndNumbersOfUnicode16) {
  EXPECT_EQ(pieces_of(R"(\p{L}+)", "a\U000323AF.\u1C8A").size(), 3U);
  EXPECT_EQ(pieces_of(R"([^\p{N}]+)", "a\U0001CCF5b").size(), 3U);
  EXPECT_EQ(pieces_of(R"(\P{L}+)", "12\U000323AF").size(), 2U);
}

TEST(SplitPattern, CountsTheMongolianVowelSeparatorAsNoSpace) {
  EXPECT_EQ(pieces_of(R"(\s+)", "a\u180Eb c").size(), 3U);
  EXPECT_EQ(pieces_of(R"([^\S]+)", "a\u180Eb\u3000c").size(), 3U);
}

// \h is a hexadecimal digit to Oniguruma and a space to PCRE2, and so on.
TEST(SplitPattern, RefusesWhatTheTwoLibrariesReadDifferently) {
  for (const std::string pattern :
       {R"(\h)", R"(\w+)", R"(\bx)", R"(\R)", R"(\u0041)", "a.b", "^a", "a$", "[a[bc]]", "[a&&b]",
        R"([[:alpha:]])", R"(\p{N}{1,3}+)", "a{2}?", "a{,3}", "(?m:x)", "(?<n>x)", "[]a]", "[a"})
    EXPECT_THROW(pcre2_pattern(pattern), DataError) << pattern;
  EXPECT_THROW(SplitPattern("(a"), DataError);
  EXPECT_THROW(SplitPattern(R"(\p{Nonsense})"), DataError);
}

TEST(SplitPattern, TakesAMegabyteOfSpaces) {
  const std::string text = std::string(1 << 20, ' ') + "x";
  EXPECT_EQ(pieces_of(R"(\s*[\r\n]+|\s+(?!\S)|\s+)", text).size(), 3U);
}

}  // namespace
}  // namespace espalier
