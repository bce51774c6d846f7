#include "data/text/pre_tokenizer.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace espalier {
namespace {

using Pieces = std::vector<std::string>;

Pieces pieces_of(std::string_view text, const PreTokenizer& cutter = PreTokenizer::gpt2()) {
  Pieces pieces;
  cutter.for_each_piece(text, [&](std::string_view piece) { pieces.emplace_back(piece); });
  return pieces;
}

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

TEST(PreTokenizer, CutsThePiecesOfOneStepInTheNext) {
  const auto digit = std::make_shared<const SplitPattern>(R"(\p{N})");
  const auto word = std::make_shared<const SplitPattern>(R"( ?\p{L}+)");
  EXPECT_EQ(pieces_of("ab12 c", PreTokenizer({{digit, false}, {word, true}})),
            (Pieces{" ab", " 1", " 2", " c"}));
  EXPECT_EQ(pieces_of("ab", PreTokenizer({})), (Pieces{"ab"}));
}

}  // namespace
}  // namespace espalier
