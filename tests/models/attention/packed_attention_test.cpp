#include "models/attention/packed_attention.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "tests/models/close.h"

namespace espalier {
namespace {

// (N, N) bool: which rows a row sees, straight from the words that define a mask.
at::Tensor dense(const AttentionMask& mask) {
  const at::Tensor sees = torch::zeros({mask.rows(), mask.rows()}, torch::kBool);
  for (const MaskGroup& group : mask.groups()) {
    for (int64_t t = 0; t < group.length; ++t) {
      const int64_t own = group.rule == MaskRule::kFull ? group.length : t + 1;
      for (int64_t u = 0; u < own; ++u) {
        sees[group.first + t * group.stride][group.first + u * group.stride] = true;
      }
      for (const int64_t other : group.sees) {
        const MaskGroup& seen = mask.groups()[static_cast<size_t>(other)];
        for (int64_t u = 0; u < seen.length; ++u) {
          sees[group.first + t * group.stride][seen.first + u * seen.stride] = true;
        }
      }
    }
  }
  return sees;
}

at::Tensor places(const AttentionMask& mask) {  // of every row in its group
  const at::Tensor place = torch::zeros({mask.rows()}, torch::kLong);
  for (const MaskGroup& group : mask.groups()) {
    for (int64_t t = 0; t < group.length; ++t) {
      place[group.first + t * group.stride] = group.position + t;
    }
  }
  return place;
}

// The textbook form: every row against every row, what is not seen at minus infinity.
at::Tensor dense_attention(const at::Tensor& qkv, const AttentionMask& mask,
                           const AttentionHeads& heads, const RotaryTable& table) {
  const at::Tensor all =
      qkv.view({mask.rows(), heads.heads + 2 * heads.kv_heads, heads.head_dim}).transpose(0, 1);
  at::Tensor q = all.narrow(0, 0, heads.heads), k = all.narrow(0, heads.heads, heads.kv_heads);
  if (table.cosines.defined()) {
    const RotaryTable of_rows{table.cosines.index_select(0, places(mask)),
                              table.sines.index_select(0, places(mask))};
    q = rotate(q, of_rows);
    k = rotate(k, of_rows);
  }
  const int64_t group = heads.heads / heads.kv_heads;
  const at::Tensor v = all.narrow(0, heads.heads + heads.kv_heads, heads.kv_heads);
  const at::Tensor scores = q.matmul(k.repeat_interleave(group, 0).transpose(1, 2)) /
                            std::sqrt(static_cast<double>(heads.head_dim));
  const at::Tensor weights = scores.masked_fill(dense(mask).logical_not(), -INFINITY).softmax(-1);
  return weights.matmul(v.repeat_interleave(group, 0))
      .transpose(0, 1)
      .reshape({mask.rows(), heads.heads * heads.head_dim});
}

struct Case {
  const char* name;
  AttentionMask mask;
  AttentionHeads heads;
  bool is_rotated;
};

class PackedAttention : public ::testing::TestWithParam<Case> {};

TEST_P(PackedAttention, KernelAndComposedFormEqualTheDenseFormWithGradients) {
  const Case& c = GetParam();
  torch::manual_seed(11);
  const auto qkv = torch::randn({c.mask.rows(), c.heads.row_width()}).requires_grad_();
  const auto to = torch::randn({c.mask.rows(), c.heads.heads * c.heads.head_dim});
  const RotaryTable table =
      c.is_rotated ? make_rotary_table(c.mask.positions(), c.heads.head_dim, {}) : RotaryTable{};
  const auto expected = dense_attention(qkv, c.mask, c.heads, table);
  const auto gradient = torch::autograd::grad({expected}, {qkv}, {to})[0];
  for (const auto form : {&packed_attention, &composed_packed_attention}) {
    const auto got = form(qkv, c.mask, c.heads, table);
    EXPECT_TRUE(are_close(got, expected, 1e-5));
    EXPECT_TRUE(are_close(torch::autograd::grad({got}, {qkv}, {to})[0], gradient, 1e-5));
  }
  const auto bf16 = packed_attention(qkv.to(torch::kBFloat16), c.mask, c.heads, table);
  EXPECT_TRUE(are_close(bf16, expected, 2e-2));
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, PackedAttention,
    ::testing::Values(
        Case{"Mixed", AttentionMask::from_lengths({1, 71, 5, 64, 17}), {4, 4, 64}, true},
        Case{"GroupedHeads", AttentionMask::from_lengths({33, 2}), {6, 2, 32}, true},
        Case{"DepthTransformer", AttentionMask::position_major(50, 4), {4, 4, 32}, false},
        Case{"OddHead", AttentionMask::from_lengths({9, 30}), {2, 1, 10}, true},
        Case{
            "Full", AttentionMask::from_lengths({1, 71, 5, 16}, MaskRule::kFull), {4, 2, 32}, true},
        Case{"FullPositionMajor",
             AttentionMask::position_major(7, 18, MaskRule::kFull),
             {2, 2, 16},
             false},
        Case{"CausalAndFull",
             AttentionMask({{0, 1, 19, MaskRule::kCausal},
                            {19, 2, 9, MaskRule::kFull},
                            {20, 2, 9, MaskRule::kCausal},
                            {37, 1, 30, MaskRule::kFull}}),
             {4, 4, 16},
             true},
        Case{"TextImageText",
             AttentionMask({{0, 1, 9, MaskRule::kCausal},
                            {9, 1, 40, MaskRule::kFull, {0}, 9},
                            {49, 1, 12, MaskRule::kCausal, {0, 1}, 49}}),
             {4, 2, 32},
             true},
        Case{"LongerThanTheOwnKernelTakes",
             AttentionMask::from_lengths({600, 20}),
             {2, 1, 16},
             true},
        Case{"OddHeadCausalAndFull",
             AttentionMask({{0, 1, 3, MaskRule::kFull}, {3, 1, 8, MaskRule::kCausal}}),
             {2, 1, 10},
             true}),
    [](const auto& test) { return std::string(test.param.name); });

// Rows whose output changes when row 4 of {0..5}, {6..11} does.
at::Tensor rows_that_see_row_4(MaskRule rule) {
  const auto mask = AttentionMask::from_lengths({6, 6}, rule);
  const AttentionHeads heads{2, 2, 16};
  auto qkv = torch::randn({12, heads.row_width()});
  const auto before = packed_attention(qkv, mask, heads, {});
  qkv[4].add_(1.0);
  const auto changed = (packed_attention(qkv, mask, heads, {}) - before).abs().amax(1) > 0;
  return changed.nonzero().flatten();
}

TEST(PackedAttention, ACausalTokenSeesNoLaterTokenAndNoOtherSequence) {
  EXPECT_TRUE(
      torch::equal(rows_that_see_row_4(MaskRule::kCausal), torch::tensor({4, 5}, torch::kLong)));
}

TEST(PackedAttention, ATokenUnderTheFullRuleSeesItsWholeSequenceAndNoOther) {
  EXPECT_TRUE(torch::equal(rows_that_see_row_4(MaskRule::kFull),
                           torch::tensor({0, 1, 2, 3, 4, 5}, torch::kLong)));
}

TEST(PackedAttention, RefusesAMatrixWithOtherRowsThanTheMask) {
  const auto mask = AttentionMask::from_lengths({3});
  EXPECT_THROW(packed_attention(torch::zeros({4, 96}), mask, {2, 2, 16}, {}), c10::Error);
}

}  // namespace
}  // namespace espalier
