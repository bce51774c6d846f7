#include "models/attention/packed_attention.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/models/close.h"

namespace espalier {
namespace {

struct Case {
  const char* name;
  SequenceLayout layout;
  AttentionHeads heads;
  bool is_rotated;
};

class PackedAttention : public ::testing::TestWithParam<Case> {};

TEST_P(PackedAttention, EqualsScaledDotProductAttentionOfEachSequence) {
  const Case& c = GetParam();
  torch::manual_seed(11);
  const auto qkv = torch::randn({c.layout.rows(), c.heads.row_width()}).requires_grad_();
  const auto to = torch::randn({c.layout.rows(), c.heads.heads * c.heads.head_dim});
  const RotaryTable table = c.is_rotated
                                ? make_rotary_table(c.layout.longest(), c.heads.head_dim, 10000.0)
                                : RotaryTable{};
  const auto fused = packed_attention(qkv, c.layout, c.heads, table);
  const auto composed = composed_packed_attention(qkv, c.layout, c.heads, table);
  EXPECT_TRUE(are_close(fused, composed, 1e-5));
  EXPECT_TRUE(are_close(torch::autograd::grad({fused}, {qkv}, {to})[0],
                        torch::autograd::grad({composed}, {qkv}, {to})[0], 1e-5));
  const auto bf16 = packed_attention(qkv.to(torch::kBFloat16), c.layout, c.heads, table);
  EXPECT_TRUE(are_close(bf16, fused, 2e-2));
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, PackedAttention,
    ::testing::Values(
        Case{"mixed", SequenceLayout::from_lengths({1, 71, 5, 64, 17}), {4, 4, 64}, true},
        Case{"grouped", SequenceLayout::from_lengths({33, 2}), {6, 2, 32}, true},
        Case{"depth", SequenceLayout::position_major(50, 4), {4, 4, 32}, false},
        Case{"odd_head", SequenceLayout::from_lengths({9, 30}), {2, 1, 10}, true}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(PackedAttention, ATokenSeesNoLaterTokenAndNoOtherSequence) {
  const auto layout = SequenceLayout::from_lengths({6, 6});
  const AttentionHeads heads{2, 2, 16};
  auto qkv = torch::randn({12, heads.row_width()});
  const auto before = packed_attention(qkv, layout, heads, {});
  qkv[4].add_(1.0);
  const auto changed = (packed_attention(qkv, layout, heads, {}) - before).abs().amax(1) > 0;
  EXPECT_TRUE(torch::equal(changed.nonzero().flatten(), torch::tensor({4, 5}, torch::kLong)));
}

TEST(PackedAttention, RefusesRowsThatAreNotTheLayouts) {
  const auto layout = SequenceLayout::from_lengths({3});
  EXPECT_THROW(packed_attention(torch::zeros({4, 96}), layout, {2, 2, 16}, {}), c10::Error);
}

}  // namespace
}  // namespace espalier
