#pragma once

#include <cstdint>

#include <torch/torch.h>

namespace espalier {

// Layers of the image tokenizer. Feature maps are (B, H, W, C) contiguous, what a CPU convolution
// wants, and a linear layer on the last dimension is a 1x1 convolution. Every spatial layer has a
// second form for masked images: only the cells of visible patches exist, as rows (V, C), and a
// table of neighbours (models/masked_autoencoder/masking.h) says who touches whom. It gives what
// the dense form gives at visible cells when masked cells are zeroed before each convolution,
// without computing them.

// 3x3, stride 1, zero padding. Weight (O, 3, 3, C), not PyTorch's (O, C, 3, 3): the order in which
// the taps of a cell are gathered, and what channels-last convolutions want, so that neither the
// weight nor its gradient is ever rearranged.
class Conv3x3Impl : public torch::nn::Module {
 public:
  Conv3x3Impl(int64_t in_channels, int64_t out_channels);
  at::Tensor forward(const at::Tensor& map);
  at::Tensor forward_visible(const at::Tensor& rows, const at::Tensor& neighbours);

  at::Tensor weight, bias;
};
TORCH_MODULE(Conv3x3);

// x + second(relu(first(relu(x)))). No norm: over positions it would let masked pixels leak, and
// at this depth the small start of `second` is enough.
class ResidualBlockImpl : public torch::nn::Module {
 public:
  explicit ResidualBlockImpl(int64_t channels);
  at::Tensor forward(const at::Tensor& map);
  at::Tensor forward_visible(const at::Tensor& rows, const at::Tensor& neighbours);

  Conv3x3 first{nullptr}, second{nullptr};
};
TORCH_MODULE(ResidualBlock);

// A chain of residual blocks at one resolution, named "0", "1", ...
class ResidualBlocksImpl : public torch::nn::Module {
 public:
  ResidualBlocksImpl(int64_t channels, int64_t count);
  at::Tensor forward(at::Tensor map);
  at::Tensor forward_visible(at::Tensor rows, const at::Tensor& neighbours);

 private:
  std::vector<ResidualBlock> blocks_;
};
TORCH_MODULE(ResidualBlocks);

// (B, H, W, C) -> (B, H/2, W/2, 4 C), channels ordered (row, column, channel); and back.
at::Tensor merge_cells(const at::Tensor& map);
at::Tensor split_cells(const at::Tensor& map);

}  // namespace espalier
