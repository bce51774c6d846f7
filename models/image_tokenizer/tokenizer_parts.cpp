#include "models/image_tokenizer/tokenizer_parts.h"

#include <cmath>

namespace espalier {
namespace {

constexpr int64_t kCellChannels = 12;  // 2 x 2 pixels of 3 channels
constexpr int64_t kFineBlocksEncoder = 1;
constexpr int64_t kFineBlocksDecoder = 2;
constexpr int64_t kSemanticBlocks = 1;

}  // namespace

int64_t square_side(int64_t positions) {
  const auto side = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(positions))));
  TORCH_CHECK(side * side == positions, positions, " positions are not a square");
  return side;
}

at::Tensor rows_to_map(const at::Tensor& rows) {
  const int64_t side = square_side(rows.size(1));
  return rows.view({rows.size(0), side, side, rows.size(2)});
}

at::Tensor image_to_patches(const at::Tensor& images) {
  const int64_t batch = images.size(0), side = images.size(2) / 4;
  return images.view({batch, 3, side, 2, 2, side, 2, 2})
      .permute({0, 2, 5, 3, 6, 4, 7, 1})
      .reshape({batch, side * side, kPatchChannels});
}

at::Tensor patches_to_cells(const at::Tensor& patches) { return split_cells(rows_to_map(patches)); }

at::Tensor cells_to_image(const at::Tensor& cells) {
  return split_cells(cells).permute({0, 3, 1, 2}).contiguous();
}

EncoderImpl::EncoderImpl(int64_t width, int64_t coarse_blocks) {
  stem = register_module("stem", Conv3x3(kCellChannels, width));
  fine = register_module("fine", ResidualBlocks(width, kFineBlocksEncoder));
  down = register_module("down", torch::nn::Linear(4 * width, 2 * width));
  coarse = register_module("coarse", ResidualBlocks(2 * width, coarse_blocks));
  norm = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({2 * width})));
}

at::Tensor EncoderImpl::forward(const at::Tensor& patches) {
  const at::Tensor cells = fine->forward(stem->forward(patches_to_cells(patches)));
  const at::Tensor map = coarse->forward(down->forward(merge_cells(at::relu(cells))));
  return norm->forward(map).flatten(1, 2);
}

at::Tensor EncoderImpl::forward_visible(const at::Tensor& patches, const VisibleGrid& grid) {
  const int64_t batch = patches.size(0), positions = patches.size(1);
  const at::Tensor first =
      at::arange(0, batch * positions, positions, grid.visible.options()).unsqueeze(1);
  // A patch is its four cells in a row, so cells and patches are views of each other.
  const at::Tensor cells = patches.flatten(0, 1)
                               .index_select(0, grid.visible.add(first).view(-1))
                               .view({-1, kCellChannels});
  at::Tensor rows = stem->forward_visible(cells, grid.fine_neighbours);
  rows = fine->forward_visible(rows, grid.fine_neighbours);
  rows = down->forward(at::relu(rows).view({-1, 4 * rows.size(1)}));
  return norm->forward(coarse->forward_visible(rows, grid.coarse_neighbours));
}

PixelDecoderImpl::PixelDecoderImpl(int64_t latent_channels, int64_t width, int64_t coarse_blocks) {
  from_latent = register_module("from_latent", torch::nn::Linear(latent_channels, 2 * width));
  coarse = register_module("coarse", ResidualBlocks(2 * width, coarse_blocks));
  up = register_module("up", torch::nn::Linear(2 * width, 4 * width));
  fine = register_module("fine", ResidualBlocks(width, kFineBlocksDecoder));
  out = register_module("out", Conv3x3(width, kCellChannels));
}

at::Tensor PixelDecoderImpl::forward(const at::Tensor& latents) {
  const at::Tensor map = coarse->forward(rows_to_map(from_latent->forward(latents)));
  const at::Tensor cells = fine->forward(split_cells(up->forward(at::relu(map))));
  return out->forward(at::relu(cells));
}

SemanticDecoderImpl::SemanticDecoderImpl(int64_t latent_channels, int64_t width,
                                         int64_t teacher_channels) {
  from_latent = register_module("from_latent", torch::nn::Linear(latent_channels, 2 * width));
  blocks = register_module("blocks", ResidualBlocks(2 * width, kSemanticBlocks));
  out = register_module("out", torch::nn::Linear(8 * width, teacher_channels));
}

at::Tensor SemanticDecoderImpl::hidden(const at::Tensor& latents) {
  return at::relu(blocks->forward(rows_to_map(from_latent->forward(latents)))).flatten(1, 2);
}

at::Tensor SemanticDecoderImpl::project(const at::Tensor& hidden) {
  return out->forward(merge_cells(rows_to_map(hidden))).flatten(1, 2);
}

}  // namespace espalier
