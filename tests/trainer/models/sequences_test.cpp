#include "trainer/models/sequences.h"

#include <gtest/gtest.h>

namespace espalier {
namespace {

std::vector<int64_t> numbers(const at::Tensor& t) {
  return {t.data_ptr<int64_t>(), t.data_ptr<int64_t>() + t.numel()};
}

constexpr SequenceTokens kTokens{
    .end = 0, .caption = 1, .question = 2, .answer = 3, .draw = 4, .null = 5};

TEST(SequencePacker, ReadsAnImageThenPredictsTheAnswerAndTheEnd) {
  SequencePacker packer(kTokens, /*image_positions=*/2);
  packer.add_read({kPicture, 1}, {10, 11});
  const TokenRows rows = packer.rows();
  // begin, two positions, end, prompt, answer
  EXPECT_EQ(numbers(rows.text_ids), (std::vector<int64_t>{1, 10, 11}));
  EXPECT_EQ(numbers(rows.sources), (std::vector<int64_t>{0, 5, 6, 1, 2, 3, 4}));
  EXPECT_EQ(numbers(packer.target_rows()), (std::vector<int64_t>{4, 5, 6}));
  EXPECT_EQ(numbers(packer.targets()), (std::vector<int64_t>{10, 11, 0}));
  EXPECT_EQ(rows.mask.rows(), 7);
}

TEST(SequencePacker, PredictsEveryPositionOfADrawnImageFromTheRowBefore) {
  SequencePacker packer(kTokens, /*image_positions=*/3);
  packer.add_draw({4, 10});
  packer.add_draw({4, 11, 12});
  const TokenRows rows = packer.rows();
  EXPECT_EQ(numbers(rows.text_ids), (std::vector<int64_t>{4, 10, 4, 11, 12}));
  EXPECT_EQ(numbers(rows.sources), (std::vector<int64_t>{2, 3, 0, 7, 8, 4, 5, 6, 0, 9, 10}));
  EXPECT_EQ(numbers(rows.positions), (std::vector<int64_t>{0, 1, 0, 1}));
  EXPECT_EQ(numbers(packer.target_rows()), (std::vector<int64_t>{2, 3, 4, 8, 9, 10}));
  EXPECT_EQ(numbers(rows.pictures), (std::vector<int64_t>{0, 0, 1, 1}));
  EXPECT_EQ(numbers(packer.drawn()), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(rows.mask.sequences(), 2);
}

TEST(SequencePacker, PutsPicturesWhereAPromptSaysThem) {
  SequencePacker packer(kTokens, /*image_positions=*/2);
  packer.add_draw({kPicture, 2, 10, kPicture, 4});
  const TokenRows rows = packer.rows();
  EXPECT_EQ(numbers(rows.sources), (std::vector<int64_t>{0, 5, 6, 1, 2, 3, 0, 7, 8, 1, 4, 0, 9}));
  EXPECT_EQ(numbers(rows.positions), (std::vector<int64_t>{0, 1, 0, 1, 0}));
  EXPECT_EQ(numbers(rows.pictures), (std::vector<int64_t>{0, 0, 1, 1, 2}));
  EXPECT_EQ(numbers(packer.drawn()), (std::vector<int64_t>{2}));
  EXPECT_EQ(numbers(packer.target_rows()), (std::vector<int64_t>{11, 12}));
}

}  // namespace
}  // namespace espalier
