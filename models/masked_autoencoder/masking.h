#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace espalier {

// Random masking of patches, as the masked autoencoder (MAE) does it: a row of noise per image is
// sorted, the `keep` patches with the least noise stay visible, the others are masked.
struct PatchMask {
  at::Tensor shuffle;  // (B, L) int64: patch at each place of the sorted order; visible ones first
  at::Tensor restore;  // (B, L) int64: inverse of shuffle
  at::Tensor masked;   // (B, L) fp32: 0 visible, 1 masked
  int64_t keep = 0;

  at::Tensor visible() const { return shuffle.slice(1, 0, keep); }  // (B, keep)
};

// `noise` (B, L) fp32. Equal noise keeps the order of the patches.
PatchMask mask_from_noise(const at::Tensor& noise, int64_t keep);

// Patches that stay visible of `patches` at this mask ratio, rounded down, at least 1.
int64_t visible_count(int64_t patches, double mask_ratio);

// Where a 3x3 convolution that sees visible cells only finds its inputs. Every visible patch holds
// cells_per_side x cells_per_side cells of a grid that is patches_per_side * cells_per_side wide;
// cells are numbered patch by patch in the order of `visible`, row by row inside a patch. Returns
// (B * keep * cells, 9) int64: the number of each neighbour, row by row, or B * keep * cells where
// the neighbour is masked or outside.
at::Tensor visible_neighbours(const at::Tensor& visible, int64_t patches_per_side,
                              int64_t cells_per_side);

// The visible patches of images of latent_size x latent_size patches, and where 3x3 convolutions
// over them find their inputs: fine cells are a quarter of a patch, coarse ones a patch.
struct VisibleGrid {
  at::Tensor visible;            // (B, keep) int64: visible patches, in any order
  at::Tensor fine_neighbours;    // (B * keep * 4, 9) int64, as visible_neighbours() numbers them
  at::Tensor coarse_neighbours;  // (B * keep, 9) int64
};
VisibleGrid make_visible_grid(const at::Tensor& visible, int64_t latent_size);

}  // namespace espalier
