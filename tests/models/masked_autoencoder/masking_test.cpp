#include "models/masked_autoencoder/masking.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace espalier {
namespace {

// The example of the published MAE code.
TEST(Masking, ThePatchesWithTheLeastNoiseStayVisible) {
  const at::Tensor noise = torch::tensor({{.9F, .1F, .5F, .3F, .7F, .2F, .8F, .4F}});
  const PatchMask mask = mask_from_noise(noise, 2);
  EXPECT_TRUE(torch::equal(mask.shuffle, torch::tensor({{1, 5, 3, 7, 2, 4, 6, 0}}, at::kLong)));
  EXPECT_TRUE(torch::equal(mask.restore, torch::tensor({{7, 0, 4, 2, 5, 1, 6, 3}}, at::kLong)));
  EXPECT_TRUE(torch::equal(mask.masked, torch::tensor({{1.F, 0.F, 1.F, 1.F, 1.F, 0.F, 1.F, 1.F}})));
  EXPECT_TRUE(torch::equal(mask.visible(), torch::tensor({{1, 5}}, at::kLong)));
}

TEST(Masking, TheVisibleShareIsRoundedDownToPatchesButNeverToNone) {
  EXPECT_EQ(visible_count(196, 0.75), 49);
  EXPECT_EQ(visible_count(196, 0.7), 58);
  EXPECT_EQ(visible_count(196, 0.6), 78);
  EXPECT_EQ(visible_count(64, 0.75), 16);
  EXPECT_EQ(visible_count(4, 0.99), 1);
}

TEST(Masking, VisibleAndMaskedPatchesPartitionTheImage) {
  torch::manual_seed(1);
  const PatchMask mask = mask_from_noise(torch::rand({5, 64}), 16);
  EXPECT_TRUE(torch::equal(mask.masked.sum(1), torch::full({5}, 48.F)));
  EXPECT_TRUE(torch::equal(std::get<0>(mask.shuffle.sort(1)), torch::arange(64).expand({5, 64})));
  EXPECT_EQ(mask.masked.gather(1, mask.visible()).sum().item<float>(), 0.F);
}

// Two patches of 2 x 2 cells, side by side in a 2 x 2 grid of patches: cells 0..3 and 4..7.
TEST(Masking, NeighboursAreVisibleCellsOfTheSameImage) {
  const at::Tensor table = visible_neighbours(torch::tensor({{0, 1}, {3, 0}}, at::kLong), 2, 2);
  ASSERT_EQ(table.sizes(), (std::vector<int64_t>{16, 9}));
  const int64_t none = 16;
  const auto row = [&](int64_t cell) { return table[cell]; };
  EXPECT_TRUE(
      torch::equal(row(1), torch::tensor({none, none, none, int64_t{0}, int64_t{1}, int64_t{4},
                                          int64_t{2}, int64_t{3}, int64_t{6}})));
  // Second image: its patch 3 comes first; no cell of it touches the first image.
  EXPECT_TRUE(torch::equal(row(8), torch::tensor({int64_t{15}, none, none, none, int64_t{8},
                                                  int64_t{9}, none, int64_t{10}, int64_t{11}})));
}

}  // namespace
}  // namespace espalier
