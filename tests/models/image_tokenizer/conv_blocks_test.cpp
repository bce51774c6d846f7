#include "models/image_tokenizer/conv_blocks.h"

#include <gtest/gtest.h>

#include "models/kernels/elementwise.h"
#include "models/kernels/tensor_pointers.h"
#include "models/masked_autoencoder/masking.h"

namespace espalier {
namespace {

at::Tensor plain_conv(const at::Tensor& map, const Conv3x3& layer) {
  return at::conv2d(map.permute({0, 3, 1, 2}), layer->weight.permute({0, 3, 1, 2}), layer->bias, 1,
                    1)
      .permute({0, 2, 3, 1});
}

at::Tensor plain_block(const at::Tensor& map, const ResidualBlock& block,
                       const at::Tensor& mask = {}) {
  const auto masked = [&](const at::Tensor& x) { return mask.defined() ? x * mask : x; };
  const at::Tensor hidden = at::relu(plain_conv(masked(at::relu(map)), block->first));
  return map + plain_conv(masked(hidden), block->second);
}

void expect_close(const std::vector<at::Tensor>& got, const std::vector<at::Tensor>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_TRUE(torch::allclose(got[i], expected[i], 1e-4, 1e-5))
        << "tensor " << i << ": off by " << (got[i] - expected[i]).abs().max().item<float>();
  }
}

std::vector<at::Tensor> with_gradients(at::Tensor output, const std::vector<at::Tensor>& inputs) {
  torch::manual_seed(99);
  std::vector<at::Tensor> all =
      torch::autograd::grad({(output * torch::randn_like(output)).sum()}, inputs);
  all.push_back(output);
  return all;
}

TEST(ConvBlocks, AResidualBlockEqualsItsConvolutionsOneByOneWithGradients) {
  torch::manual_seed(1);
  ResidualBlock block(6);
  block->first->bias.data().normal_();
  const at::Tensor map = torch::randn({2, 5, 7, 6}).requires_grad_();
  std::vector<at::Tensor> inputs = block->parameters();
  inputs.push_back(map);
  expect_close(with_gradients(block->forward(map), inputs),
               with_gradients(plain_block(map, block), inputs));
}

// Bit for bit what ATen's operations give, elements beside the vectors included.
TEST(ConvBlocks, ReluBackwardEqualsTheOperationsItFusesBitForBit) {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const at::Tensor gradient = torch::randn({37}).to(type);
    const at::Tensor output = torch::randn({37}).to(type).relu();
    const at::Tensor addend = torch::randn({37}).to(type);
    const at::Tensor masked = at::threshold_backward(gradient, output, 0);
    const at::Tensor plain = gradient.clone(), added = gradient.clone();
    kernels::with_kernel_type(type, [&](auto t) {
      using T = decltype(t);
      kernels::relu_backward(kernels::pointer<T>(plain), kernels::pointer<T>(output), nullptr, 0,
                             37);
      kernels::relu_backward(kernels::pointer<T>(added), kernels::pointer<T>(output),
                             kernels::pointer<T>(addend), 0, 37);
    });
    EXPECT_TRUE(torch::equal(plain, masked));
    EXPECT_TRUE(torch::equal(added, masked + addend));
  }
}

// What the masked pass computes for visible cells is what zeroing masked cells before each
// convolution gives there, forward and backward.
TEST(ConvBlocks, ABlockOverVisibleCellsEqualsADenseOneThatZeroesMaskedCells) {
  torch::manual_seed(2);
  constexpr int64_t kBatch = 3, kSide = 4, kCells = 2, kChannels = 5, kKeep = 5;
  ResidualBlock block(kChannels);
  block->first->bias.data().normal_();
  const at::Tensor visible =
      mask_from_noise(torch::rand({kBatch, kSide * kSide}), kKeep).visible().contiguous();
  const at::Tensor neighbours = visible_neighbours(visible, kSide, kCells);
  const at::Tensor rows =
      torch::randn({kBatch * kKeep * kCells * kCells, kChannels}).requires_grad_();

  // Row number of every cell of the dense map, or -1.
  const int64_t width = kSide * kCells;
  at::Tensor where = torch::full({kBatch, width, width}, -1, at::kLong);
  for (int64_t row = 0; row < rows.size(0); ++row) {
    const int64_t image = row / (kKeep * 4),
                  patch = visible[image][row / 4 % kKeep].item<int64_t>();
    const int64_t cell = row % 4;
    where[image][patch / kSide * 2 + cell / 2][patch % kSide * 2 + cell % 2] = row;
  }
  const at::Tensor mask = where.ge(0).unsqueeze(3).to(at::kFloat);
  const at::Tensor order = where.view(-1).argsort().slice(0, kBatch * width * width - rows.size(0));
  const at::Tensor dense =
      (rows.index_select(0, where.clamp_min(0).view(-1)).view({kBatch, width, width, kChannels})) *
      mask;
  const at::Tensor masked = plain_block(dense, block, mask).view({-1, kChannels});

  std::vector<at::Tensor> inputs = block->parameters();
  inputs.push_back(rows);
  expect_close(with_gradients(block->forward_visible(rows, neighbours), inputs),
               with_gradients(masked.index_select(0, order), inputs));
}

TEST(ConvBlocks, MergingCellsAndSplittingThemAreInverse) {
  const at::Tensor map = torch::arange(2 * 4 * 6 * 3).view({2, 4, 6, 3});
  const at::Tensor merged = merge_cells(map);
  EXPECT_EQ(merged.sizes(), (std::vector<int64_t>{2, 2, 3, 12}));
  EXPECT_TRUE(torch::equal(merged[0][0][0].slice(0, 3, 6), map[0][0][1]));
  EXPECT_TRUE(torch::equal(merged[0][0][0].slice(0, 6, 9), map[0][1][0]));
  EXPECT_TRUE(torch::equal(split_cells(merged), map));
}

}  // namespace
}  // namespace espalier
