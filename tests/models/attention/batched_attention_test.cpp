#include "models/attention/batched_attention.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>

#include "models/attention/attention_plan.h"
#include "models/attention/block_attention.h"
#include "models/attention/rotary.h"
#include "tests/models/close.h"

namespace espalier {
namespace {

struct BatchedCase {
  std::string name;
  AttentionMask mask;
};

std::vector<BatchedCase> batched_cases() {
  return {{"Ragged", AttentionMask::from_lengths({5, 70, 1, 33})},
          {"RaggedSamples", AttentionMask::from_lengths({5, 9, 2}).repeated(3)},
          {"Even", AttentionMask::from_lengths({7, 7, 7}, MaskRule::kFull)},
          {"EvenSamples", AttentionMask::from_lengths({4, 4}).repeated(2)},
          {"TokenMajor", AttentionMask::position_major(6, 4)},
          {"TokenMajorSamples", AttentionMask::position_major(3, 4).repeated(2)},
          {"OneTokenEach", AttentionMask::position_major(5, 1)}};
}

// Output and gradients of q, k and v.
std::vector<at::Tensor> results(const BatchedCase& one, bool is_batched, at::ScalarType type) {
  const AttentionHeads heads{4, 2, 16};
  torch::manual_seed(1);
  const auto rows = [&](int64_t width) {
    return torch::randn({one.mask.rows(), width}).to(type).requires_grad_();
  };
  const at::Tensor q = rows(64), k = rows(32), v = rows(32),
                   to = torch::randn({one.mask.rows(), 64});
  const at::Tensor out = is_batched ? batched_attention(q, k, v, one.mask, heads)
                                    : composed_block_attention(q, k, v, one.mask, heads);
  std::vector<at::Tensor> all = torch::autograd::grad({out}, {q, k, v}, {to.to(type)});
  all.push_back(out.detach());
  return all;
}

TEST(BatchedAttention, EqualsTheDenseFormWithItsGradients) {
  for (const BatchedCase& one : batched_cases()) {
    const auto actual = results(one, true, at::kFloat), expected = results(one, false, at::kFloat);
    for (size_t i = 0; i < actual.size(); ++i) {
      // Of one key alone the weight is 1 whatever the query: gradients of 0 but for rounding.
      const double scale = std::max(expected[i].abs().max().item<double>(), 0.1);
      EXPECT_LE((actual[i] - expected[i]).abs().max().item<double>(), 1e-5 * scale)
          << one.name << ", result " << i;
    }
    const auto rounded = results(one, true, at::kBFloat16);
    EXPECT_TRUE(are_close(rounded.back(), expected.back(), 4e-2)) << one.name;
  }
}

TEST(BatchedAttention, PadsLengthsThatDifferToAMultipleAndNoOthers) {
  const auto ragged = AttentionMask::from_lengths({5, 70, 1}).plan().batch;
  ASSERT_TRUE(ragged);
  EXPECT_EQ(ragged->length, 128);
  EXPECT_TRUE(ragged->is_causal);
  const auto even = AttentionMask::position_major(6, 4).plan().batch;
  ASSERT_TRUE(even);
  EXPECT_EQ(even->length, 4);
  EXPECT_FALSE(even->cells.defined());
}

TEST(BatchedAttention, TakesNoMaskInWhichPaddingOrAnotherSequenceWouldBeSeen) {
  EXPECT_FALSE(AttentionMask::from_lengths({5, 7}, MaskRule::kFull).plan().batch);
  EXPECT_FALSE(AttentionMask::from_lengths({5}).plan().batch);  // one call as it is
  const MaskGroup first{.length = 3, .rule = MaskRule::kFull};
  const MaskGroup second{.first = 3, .length = 3, .rule = MaskRule::kFull, .sees = {0}};
  EXPECT_FALSE(AttentionMask({first, second}).plan().batch);
}

// Angles in bfloat16 would turn far tokens elsewhere.
TEST(Rotary, TurnsInFp32WhateverTheTypeOfTheRows) {
  torch::manual_seed(2);
  const RotaryTable table = make_rotary_table(4096, 16, {});
  const at::Tensor x = torch::randn({4096, 16}).to(at::kBFloat16);
  const at::Tensor exact = rotate(x.to(at::kDouble), table);
  const at::Tensor turned = rotate(x, table);
  EXPECT_EQ(turned.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(turned.equal(rotate(x.to(at::kFloat), table).to(at::kBFloat16)));
  EXPECT_LE((turned.to(at::kDouble) - exact).abs().max().item<double>(), 0.02);
}

}  // namespace
}  // namespace espalier
