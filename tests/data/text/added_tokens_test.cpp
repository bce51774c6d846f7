#include "data/text/added_tokens.h"

#include <gtest/gtest.h>

namespace espalier {
namespace {

// "[a|b]": a token of that extent, "b": text.
std::string parts_of(const AddedTokenFinder& finder, std::string_view text, bool as_text = false) {
  std::string shown;
  finder.for_each_part(text, as_text, [&](const AddedTokenFinder::Part& part) {
    shown += part.token == nullptr
                 ? "(" + std::string(part.text) + ")"
                 : "[" + std::to_string(part.token->id) + "|" + std::string(part.text) + "]";
  });
  return shown;
}

TEST(AddedTokens, AreFoundLeftmostAndLongest) {
  const AddedTokenFinder finder(
      {{.id = 1, .content = "<a"}, {.id = 2, .content = "<a>"}, {.id = 3, .content = ""}});
  EXPECT_EQ(parts_of(finder, "x<a><a y"), "(x)[2|<a>][1|<a]( y)");
  EXPECT_EQ(parts_of(finder, ""), "");
  EXPECT_EQ(parts_of(finder, "x\xFF<a"), "(x\xFF)[1|<a]");
}

TEST(AddedTokens, TakeTheWhiteSpaceBesideThem) {
  const AddedTokenFinder finder({{.id = 1, .content = "<l>", .takes_left = true},
                                 {.id = 2, .content = "<r>", .takes_right = true}});
  EXPECT_EQ(parts_of(finder, "a \u3000<l> b"), "(a)[1| \u3000<l>]( b)");
  EXPECT_EQ(parts_of(finder, "a <r>\n <l>b"), "(a )[2|<r>\n ][1|<l>](b)");
}

TEST(AddedTokens, ThatAreWordsStandAlone) {
  const AddedTokenFinder finder({{.id = 1, .content = "cat", .is_word = true}});
  EXPECT_EQ(parts_of(finder, "cat concat cats cat_ \u00e9cat cat."),
            "[1|cat]( concat cats cat_ \u00e9cat )[1|cat](.)");
}

TEST(AddedTokens, ThatAreSpecialMayBeText) {
  const AddedTokenFinder finder(
      {{.id = 1, .content = "<s>", .is_special = true}, {.id = 2, .content = "s>x"}});
  EXPECT_EQ(parts_of(finder, "<s>x s>x"), "[1|<s>](x )[2|s>x]");
  EXPECT_EQ(parts_of(finder, "<s>x s>x", true), "(<s>x )[2|s>x]");
}

}  // namespace
}  // namespace espalier
