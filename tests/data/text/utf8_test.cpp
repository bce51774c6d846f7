#include "data/text/utf8.h"

#include <gtest/gtest.h>

namespace espalier {
namespace {

TEST(Utf8, KeepsValidText) {
  const std::string text = "Côte d’Ivoire 汉字 \xF0\x9F\x98\x80";
  EXPECT_EQ(replace_invalid_utf8(text), text);
  EXPECT_EQ(count_code_points("é汉\xF0\x9F\x98\x80"), 3);
}

// Expected values: Python's bytes.decode("utf-8", errors="replace").
TEST(Utf8, ReplacesEachMaximalInvalidPart) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(replace_invalid_utf8("a\xFFz"), "a" + bad + "z");
  EXPECT_EQ(replace_invalid_utf8("\xE2\x82"), bad);                  // cut short
  EXPECT_EQ(replace_invalid_utf8("\xE2\x28\xA1"), bad + "(" + bad);  // wrong second byte
  EXPECT_EQ(replace_invalid_utf8("\xC0\xAF"), bad + bad);            // overlong
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80"), bad + bad + bad);  // surrogate
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x98x"), bad + "x");
  EXPECT_EQ(replace_invalid_utf8("\xF5\x80"), bad + bad);
}

TEST(Utf8, LengthIsZeroWhereNothingWellFormedBegins) {
  EXPECT_EQ(utf8_length(""), 0);
  EXPECT_EQ(utf8_length("a"), 1);
  EXPECT_EQ(utf8_length("\xC3\xA9x"), 2);
  EXPECT_EQ(utf8_length("\x80"), 0);
  EXPECT_EQ(utf8_length("\xE2\x82"), 0);
}

}  // namespace
}  // namespace espalier
