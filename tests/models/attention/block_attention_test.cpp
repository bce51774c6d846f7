#include "models/attention/block_attention.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "models/attention/attention_plan.h"
#include "models/attention/fused_attention.h"
#include "models/attention/mask_description.h"
#include "tests/models/attention/random_masks.h"
#include "tests/models/close.h"

namespace espalier {
namespace {

// (T, T) bool, token by token from the words of the description: nothing of the engine's table.
at::Tensor by_words(const MaskDescription& description, const MaskLayout& layout) {
  const int64_t rows = layout.mask.rows();
  const at::Tensor visible = torch::zeros({rows, rows}, torch::kBool);
  auto cells = visible.accessor<bool, 2>();
  for (const PlacedGroup& asks : layout.placed) {
    for (const PlacedGroup& seen : layout.placed) {
      for (int64_t i = 0; i < asks.length; ++i) {
        for (int64_t j = 0; j < seen.length; ++j) {
          cells[asks.first + i][seen.first + j] = sees(description, asks, i, seen, j);
        }
      }
    }
  }
  return visible;
}

struct Tensors {
  at::Tensor q, k, v, to;  // rows
};

Tensors random_tensors(const AttentionMask& mask, const AttentionHeads& heads) {
  const int64_t kv_width = heads.kv_heads * heads.head_dim;
  return {torch::randn({mask.queries(), heads.heads * heads.head_dim}),
          torch::randn({mask.rows(), kv_width}), torch::randn({mask.rows(), kv_width}),
          torch::randn({mask.queries(), heads.heads * heads.head_dim})};
}

struct Result {
  at::Tensor out, q, k, v;
};

Result with_gradients(const std::function<at::Tensor(const Tensors&)>& form, const Tensors& in,
                      at::ScalarType type) {
  const auto leaf = [&](const at::Tensor& t) { return t.to(type).detach().requires_grad_(); };
  const Tensors leaves{leaf(in.q), leaf(in.k), leaf(in.v), in.to.to(type)};
  const at::Tensor out = form(leaves);
  const auto grads =
      torch::autograd::grad({out}, {leaves.q, leaves.k, leaves.v}, {leaves.to.to(out.options())});
  return {out.detach(), grads[0], grads[1], grads[2]};
}

// The textbook form in double precision, every row of every sample against every row.
at::Tensor textbook(const Tensors& in, const at::Tensor& visible, const AttentionHeads& heads,
                    int64_t samples) {
  const auto split = [&](const at::Tensor& rows, int64_t count) {
    return rows.view({samples, rows.size(0) / samples, count, heads.head_dim}).transpose(1, 2);
  };
  const int64_t times = heads.heads / heads.kv_heads;
  const at::Tensor k = split(in.k, heads.kv_heads).repeat_interleave(times, 1);
  const at::Tensor v = split(in.v, heads.kv_heads).repeat_interleave(times, 1);
  const at::Tensor scores = split(in.q, heads.heads).matmul(k.transpose(2, 3)) /
                            std::sqrt(static_cast<double>(heads.head_dim));
  return scores.masked_fill(visible.logical_not(), -INFINITY)
      .softmax(-1)
      .matmul(v)
      .transpose(1, 2)
      .reshape({in.q.size(0), in.q.size(1)});
}

double worst(const Result& got, const Result& expected) {
  double error = 0;
  for (const auto member : {&Result::out, &Result::q, &Result::k, &Result::v}) {
    const at::Tensor& truth = expected.*member;
    // One key alone: weights are 1 whatever the query, and the gradient of q is 0 but for rounding.
    const double scale = std::max(truth.abs().max().item<double>(), 0.1);
    error = std::max(error,
                     ((got.*member).to(torch::kDouble) - truth).abs().max().item<double>() / scale);
  }
  return error;
}

TEST(BlockAttention, EqualsTheDenseFormInDoublePrecisionOver200RandomDescriptions) {
  std::mt19937 random(5);
  torch::manual_seed(5);
  int64_t merged = 0;
  for (int trial = 0; trial < 200; ++trial) {
    const MaskDescription description = random_description(random);
    const MaskLayout layout = lay_out(description);
    const int64_t samples = trial % 3 + 1;
    const AttentionMask mask = layout.mask.repeated(samples);
    const AttentionHeads heads{4, trial % 2 == 0 ? 4 : 2, trial % 5 == 0 ? 10 : 16};
    const at::Tensor visible = by_words(description, layout);
    ASSERT_TRUE(torch::equal(mask.dense(), visible)) << layout.mask;
    ASSERT_EQ(layout.mask.visible(), visible.sum().item<int64_t>());
    const Tensors in = random_tensors(mask, heads);
    const Result expected = with_gradients(
        [&](const Tensors& t) { return textbook(t, visible, heads, samples); }, in, torch::kDouble);
    const auto form = [&](const Tensors& t) { return block_attention(t.q, t.k, t.v, mask, heads); };
    EXPECT_LE(worst(with_gradients(form, in, torch::kFloat), expected), 1e-5) << layout.mask;
    if (trial % 4 == 0) {
      EXPECT_LE(worst(with_gradients(form, in, torch::kBFloat16), expected), 4e-2) << layout.mask;
      EXPECT_LE(worst(with_gradients(form, in, torch::kDouble), expected), 1e-12) << layout.mask;
    }
    for (const auto& piece : mask.plan().pieces) merged += piece.is_first ? 0 : 1;
  }
  EXPECT_GT(merged, 50) << "too few masks whose pieces have to be merged";
}

TEST(BlockAttention, PiecesCoverTheVisiblePairsOnce) {
  std::mt19937 random(6);
  for (int trial = 0; trial < 100; ++trial) {
    const AttentionMask mask = lay_out(random_description(random)).mask;
    int64_t pairs = 0;
    for (const AttentionPiece& piece : mask.plan().pieces) {
      pairs += piece.is_causal ? piece.query_count * (piece.query_count + 1) / 2
                               : piece.query_count * piece.key_count;
    }
    EXPECT_EQ(pairs, mask.visible()) << mask;
  }
}

// Rows whose output or gradient changes when `row` does: bit for bit.
TEST(BlockAttention, WhatATokenDoesNotSeeChangesNothingOfItBitForBit) {
  std::mt19937 random(7);
  torch::manual_seed(7);
  for (int trial = 0; trial < 40; ++trial) {
    const MaskLayout layout = lay_out(random_description(random));
    const AttentionMask mask = layout.mask.repeated(2);
    const AttentionHeads heads{2, 2, 16};
    Tensors in = random_tensors(mask, heads);
    const at::Tensor before = block_attention(in.q, in.k, in.v, mask, heads);
    const int64_t row = std::uniform_int_distribution<int64_t>(0, mask.sample_rows() - 1)(random);
    in.k[row].add_(3.0);
    in.v[row].add_(3.0);
    const at::Tensor changed = (block_attention(in.q, in.k, in.v, mask, heads) != before).any(1);
    const at::Tensor sees_row =
        torch::cat({mask.dense().select(1, row), torch::zeros({mask.sample_rows()}, torch::kBool)});
    EXPECT_FALSE(changed.logical_and(sees_row.logical_not()).any().item<bool>()) << mask;

    // And the loss of one row puts no gradient, not even a small one, on what that row cannot see.
    const at::Tensor k = in.k.clone().requires_grad_();
    const at::Tensor out = block_attention(in.q, k, in.v, mask, heads);
    const at::Tensor grad = torch::autograd::grad({out[row].sum()}, {k})[0];
    const at::Tensor hidden = torch::cat(
        {mask.dense()[row].logical_not(), torch::ones({mask.sample_rows()}, torch::kBool)});
    EXPECT_EQ(grad.index({hidden}).abs().sum().item<double>(), 0.0) << mask;
  }
}

TEST(BlockAttention, PackedSamplesEqualEachSampleAlone) {
  std::mt19937 random(8);
  torch::manual_seed(8);
  for (int trial = 0; trial < 20; ++trial) {
    const AttentionMask alone = lay_out(random_description(random)).mask;
    const AttentionHeads heads{2, 1, 16};
    const Tensors in = random_tensors(alone.repeated(3), heads);
    const at::Tensor together = block_attention(in.q, in.k, in.v, alone.repeated(3), heads);
    const int64_t rows = alone.rows();
    for (int64_t sample = 0; sample < 3; ++sample) {
      const auto mine = [&](const at::Tensor& t) { return t.narrow(0, sample * rows, rows); };
      EXPECT_TRUE(torch::equal(mine(together),
                               block_attention(mine(in.q), mine(in.k), mine(in.v), alone, heads)));
    }
  }
}

TEST(BlockAttention, GroupsThatDoNotAskAreSeenAndHaveNoOutput) {
  const AttentionMask mask({{.first = 0, .length = 5, .rule = MaskRule::kNone, .asks = false},
                            {.first = 5, .length = 3, .rule = MaskRule::kFull, .sees = {0}},
                            {.first = 8, .length = 2, .rule = MaskRule::kCausal, .sees = {0}}});
  const AttentionMask two = mask.repeated(2);
  EXPECT_EQ(two.queries(), 10);
  const AttentionHeads heads{2, 2, 16};
  const Tensors in = random_tensors(two, heads);
  const auto form = [&](const Tensors& t) { return block_attention(t.q, t.k, t.v, two, heads); };
  const Result expected = with_gradients(
      [&](const Tensors& t) { return textbook(t, two.dense(), heads, 2); }, in, torch::kDouble);
  EXPECT_LE(worst(with_gradients(form, in, torch::kFloat), expected), 1e-5);
}

TEST(BlockAttention, AChainOfCausalGroupsIsOnePiece) {
  MaskDescription text;
  text.groups = {{.name = "a", .kind = GroupKind::kCausal, .tokens = 7},
                 {.name = "b", .kind = GroupKind::kCausal, .tokens = 5},
                 {.name = "c", .kind = GroupKind::kCausal, .tokens = 1}};
  text.groups[1].sees = {{{"a"}, 0, 0}};
  text.groups[2].sees = {{{"a", "b"}, 0, 0}};
  const AttentionMask mask = lay_out(text).mask;
  const AttentionPlan& plan = mask.plan();
  ASSERT_EQ(plan.pieces.size(), 1U);
  EXPECT_TRUE(plan.pieces[0].is_causal);
  EXPECT_EQ(plan.pieces[0].query_count, 13);
}

TEST(BlockAttention, SaysWhenOnlyTheComposedFormIsLeft) {
  EXPECT_EQ(attention_path(at::kCPU, at::kFloat, 10), "flash attention (CPU)");
  const std::string warning = attention_path(at::Device("cuda:0"), at::kBFloat16, 10);
  EXPECT_NE(warning.find("no fused kernel on cuda:0 takes BFloat16 with heads of width 10"),
            std::string::npos)
      << warning;
}

TEST(BlockAttention, RefusesRowsThatAreNotTheMasks) {
  const AttentionMask mask = AttentionMask::from_lengths({3});
  EXPECT_THROW(block_attention(torch::zeros({4, 32}), torch::zeros({3, 32}), torch::zeros({3, 32}),
                               mask, {2, 2, 16}),
               c10::Error);
}

}  // namespace
}  // namespace espalier
