#include "data/text/pre_tokenizer.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace espalier {
namespace {

std::vector<std::string> pieces_of(std::string_view text) {
  std::vector<std::string> pieces;
  for_each_piece(text, [&](std::string_view piece) { pieces.emplace_back(piece); });
  return pieces;
}

using Pieces = std::vector<std::string>;

TEST(PreTokenizer, CutsWordsNumbersPunctuationAndContractions) {
  EXPECT_EQ(pieces_of("it's 12 o'clock!!"), (Pieces{"it", "'s", " 12", " o", "'", "clock", "!!"}));
}

TEST(PreTokenizer, LeavesTheLastSpaceToTheNextWord) {
  EXPECT_EQ(pieces_of("a  b \n c "), (Pieces{"a", " ", " b", " \n", " c", " "}));
}

TEST(PreTokenizer, KeepsBytesThatAreNotUtf8) {
  const std::string text = std::string("caf\xC3 \xFF\xFE") + '\0' + "x\x80";
  std::string joined;
  for (const std::string& piece : pieces_of(text)) joined += piece;
  EXPECT_EQ(joined, text);
}

TEST(PreTokenizer, GivesNoPieceForEmptyText) { EXPECT_TRUE(pieces_of("").empty()); }

}  // namespace
}  // namespace espalier
