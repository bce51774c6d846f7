#include "models/masked_autoencoder/masking.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace espalier {

int64_t visible_count(int64_t patches, double mask_ratio) {
  // The small term keeps 196 * (1 - 0.75) from becoming 48.999... .
  const double visible = static_cast<double>(patches) * (1.0 - mask_ratio);
  return std::max<int64_t>(1, static_cast<int64_t>(std::floor(visible + 1e-6)));
}

PatchMask mask_from_noise(const at::Tensor& noise, int64_t keep) {
  TORCH_CHECK(noise.dim() == 2 && keep >= 1 && keep <= noise.size(1), "cannot keep ", keep,
              " patches of noise ", noise.sizes());
  PatchMask mask;
  mask.keep = keep;
  mask.shuffle = noise.argsort(/*stable=*/true, /*dim=*/1);
  mask.restore = mask.shuffle.argsort(/*stable=*/true, /*dim=*/1);
  mask.masked = mask.restore.ge(keep).to(at::kFloat);
  return mask;
}

at::Tensor visible_neighbours(const at::Tensor& visible, int64_t patches_per_side,
                              int64_t cells_per_side) {
  const at::Tensor patches = visible.contiguous();
  const int64_t batch = patches.size(0);
  const int64_t keep = patches.size(1);
  const int64_t cells = cells_per_side * cells_per_side;
  const int64_t side = patches_per_side * cells_per_side;
  const int64_t none = batch * keep * cells;
  at::Tensor table = at::empty({none, 9}, patches.options());
  const auto* patch = patches.const_data_ptr<int64_t>();
  auto* out = table.mutable_data_ptr<int64_t>();
  std::vector<int64_t> number(static_cast<size_t>(side * side));
  for (int64_t image = 0; image < batch; ++image, patch += keep) {
    std::fill(number.begin(), number.end(), none);
    const auto cell_at = [&](int64_t p, int64_t cell) {
      const int64_t row = patch[p] / patches_per_side * cells_per_side + cell / cells_per_side;
      const int64_t column = patch[p] % patches_per_side * cells_per_side + cell % cells_per_side;
      return std::pair(row, column);
    };
    for (int64_t i = 0; i < keep * cells; ++i) {
      const auto [row, column] = cell_at(i / cells, i % cells);
      number[static_cast<size_t>(row * side + column)] = image * keep * cells + i;
    }
    for (int64_t i = 0; i < keep * cells; ++i) {
      const auto [row, column] = cell_at(i / cells, i % cells);
      for (int64_t r = row - 1; r <= row + 1; ++r) {
        for (int64_t c = column - 1; c <= column + 1; ++c) {
          const bool inside = r >= 0 && r < side && c >= 0 && c < side;
          *out++ = inside ? number[static_cast<size_t>(r * side + c)] : none;
        }
      }
    }
  }
  return table;
}

VisibleGrid make_visible_grid(const at::Tensor& visible, int64_t latent_size) {
  return {visible, visible_neighbours(visible, latent_size, 2),
          visible_neighbours(visible, latent_size, 1)};
}

}  // namespace espalier
