#pragma once

#include <cstdint>

#include <torch/torch.h>

#include "models/image_tokenizer/conv_blocks.h"
#include "models/masked_autoencoder/masking.h"

namespace espalier {

// The networks that an image tokenizer is made of. "Coarse" is the resolution of the latent,
// "fine" twice that; a coarse position covers a patch of 4 x 4 pixels, a fine cell 2 x 2. Maps are
// (B, H, W, C) contiguous.

constexpr int64_t kPatchChannels = 48;  // 4 x 4 pixels of 3 channels

// Side of a square of positions; throws c10::Error when they are not a square. And rows (B, L, C)
// as the map they are, (B, h, h, C), h^2 = L.
int64_t square_side(int64_t positions);
at::Tensor rows_to_map(const at::Tensor& rows);

// Images (B, 3, S, S) -> (B, (S/4)^2, 48): each patch as its four cells, each cell (row, column,
// channel). One permutation serves encoder, pixel loss and masked-patch targets.
at::Tensor image_to_patches(const at::Tensor& images);
// (B, L, 48) -> fine map (B, 2h, 2h, 12), h^2 = L; and fine map -> images.
at::Tensor patches_to_cells(const at::Tensor& patches);
at::Tensor cells_to_image(const at::Tensor& cells);

struct EncoderImpl : torch::nn::Module {
  EncoderImpl(int64_t width, int64_t coarse_blocks);
  at::Tensor forward(const at::Tensor& patches);  // (B, L, 48) -> (B, L, 2 width), normalised
  // Sees the visible patches only: (B, L, 48) -> (B * keep, 2 width).
  at::Tensor forward_visible(const at::Tensor& patches, const VisibleGrid& grid);

  Conv3x3 stem{nullptr};
  ResidualBlocks fine{nullptr}, coarse{nullptr};
  torch::nn::Linear down{nullptr};
  torch::nn::LayerNorm norm{nullptr};
};
TORCH_MODULE(Encoder);

struct PixelDecoderImpl : torch::nn::Module {
  PixelDecoderImpl(int64_t latent_channels, int64_t width, int64_t coarse_blocks);
  at::Tensor forward(const at::Tensor& latents);  // (B, L, d) -> fine map (B, 2h, 2h, 12)

  torch::nn::Linear from_latent{nullptr}, up{nullptr};
  ResidualBlocks coarse{nullptr}, fine{nullptr};
  Conv3x3 out{nullptr};
};
TORCH_MODULE(PixelDecoder);

struct SemanticDecoderImpl : torch::nn::Module {
  SemanticDecoderImpl(int64_t latent_channels, int64_t width, int64_t teacher_channels);
  at::Tensor hidden(const at::Tensor& latents);  // (B, L, d) -> (B, L, 2 width)
  // Hidden features of 2 x 2 positions -> the teacher's channels at their place: (B, L / 4, C).
  at::Tensor project(const at::Tensor& hidden);

  torch::nn::Linear from_latent{nullptr}, out{nullptr};
  ResidualBlocks blocks{nullptr};
};
TORCH_MODULE(SemanticDecoder);

}  // namespace espalier
