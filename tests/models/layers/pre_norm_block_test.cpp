#include "models/layers/pre_norm_block.h"

#include <gtest/gtest.h>

#include <ATen/autocast_mode.h>

#include "tests/models/close.h"
#include "tests/models/finite_differences.h"

namespace espalier {
namespace {

// Whole layers are compared with GPT-2's, timm's and DiT's in world_model_parity_test.cpp.
PreNormBlockOptions small_block(bool affine) {
  return {.width = 32, .heads = 2, .mlp_width = 64, .affine_norm = affine, .gelu = Gelu::kTanh};
}

TEST(PreNormBlock, GradientsAreFiniteDifferences) {
  torch::manual_seed(2);
  PreNormBlock block(small_block(true));
  block->to(torch::kDouble);
  const auto mask = AttentionMask::from_lengths({3, 4}, MaskRule::kFull);
  const auto rows = torch::randn({7, 32}, torch::kDouble).requires_grad_();
  const auto to = torch::randn({7, 32}, torch::kDouble);
  auto tensors = block->parameters();
  tensors.push_back(rows);
  expect_finite_differences(tensors, [&] { return (block->forward(rows, mask) * to).sum(); });
}

TEST(PreNormBlock, WithoutAffineNormHasNoParametersInItsNorms) {
  EXPECT_EQ(PreNormBlock(small_block(true))->parameters().size(), 12u);
  EXPECT_EQ(PreNormBlock(small_block(false))->parameters().size(), 8u);
}

TEST(PreNormBlock, SequencesOfAMaskDoNotSeeEachOther) {
  torch::manual_seed(3);
  PreNormBlock block(small_block(true));
  const auto mask = AttentionMask::from_lengths({3, 5}, MaskRule::kFull);
  const auto rows = torch::randn({8, 32});
  auto other = rows.clone();
  other.slice(0, 3).normal_();
  EXPECT_TRUE(torch::equal(block->forward(rows, mask).slice(0, 0, 3),
                           block->forward(other, mask).slice(0, 0, 3)));
}

TEST(PreNormBlock, StreamStaysFp32UnderAutocast) {
  torch::manual_seed(4);
  PreNormBlock block(small_block(true));
  const auto mask = AttentionMask::from_lengths({8}, MaskRule::kFull);
  const auto rows = torch::randn({8, 32});
  const auto expected = block->forward(rows, mask);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  const auto got = block->forward(rows, mask);
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_EQ(got.scalar_type(), torch::kFloat);
  EXPECT_FALSE(torch::equal(got, expected)) << "autocast was off";
  EXPECT_TRUE(are_close(got, expected, 2e-2));
}

TEST(PreNormBlock, NamesHeadsThatDoNotDivideTheWidth) {
  try {
    PreNormBlock(PreNormBlockOptions{.width = 30, .heads = 4});
    FAIL() << "no error";
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    EXPECT_NE(message.find("width 30, 4 heads"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace espalier
