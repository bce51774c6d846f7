#include "models/world_model/image_patches.h"

#include <cmath>

#include "models/world_model/sincos_positions.h"

namespace espalier {
namespace {

constexpr double kEpsilon = 1e-6;  // as vision transformers have it

}  // namespace

at::Tensor to_patches(const at::Tensor& images, int64_t patch) {
  TORCH_CHECK(images.dim() == 4 && images.size(2) == images.size(3) && patch > 0 &&
                  images.size(2) % patch == 0,
              "patches of ", patch, " want images (B, C, S, S) with S a multiple of it, got ",
              images.sizes());
  const int64_t batch = images.size(0), channels = images.size(1), side = images.size(2) / patch;
  return images.reshape({batch, channels, side, patch, side, patch})
      .permute({0, 2, 4, 3, 5, 1})
      .reshape({batch, side * side, patch * patch * channels});
}

at::Tensor from_patches(const at::Tensor& patches, int64_t patch) {
  const auto side =
      static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(patches.size(1)))));
  TORCH_CHECK(patches.dim() == 3 && side * side == patches.size(1) && patch > 0 &&
                  patches.size(2) % (patch * patch) == 0,
              "patches of ", patch, " want (B, a square, patch * patch * C), got ",
              patches.sizes());
  const int64_t batch = patches.size(0), channels = patches.size(2) / (patch * patch);
  return patches.reshape({batch, side, side, patch, patch, channels})
      .permute({0, 5, 1, 3, 2, 4})
      .reshape({batch, channels, side * patch, side * patch});
}

ImagePatchesImpl::ImagePatchesImpl(const ImagePatchesOptions& options) : options_(options) {
  TORCH_CHECK(options.patch > 0 && options.image_size % options.patch == 0,
              "an image encoder wants a patch that divides the image, got image_size ",
              options.image_size, ", patch ", options.patch);
  const int64_t side = options.image_size / options.patch;
  embedding = register_module("embedding",
                              make_xavier_linear(3 * options.patch * options.patch, options.width));
  mask_ = AttentionMask::from_lengths({side * side}, MaskRule::kFull);
  blocks = register_module(
      "blocks",
      make_pre_norm_blocks(options.blocks, PreNormBlockOptions{.width = options.width,
                                                               .heads = options.heads,
                                                               .mlp_width = options.mlp_width,
                                                               .norm_epsilon = kEpsilon}));
  norm = register_module("norm", make_layer_norm(options.width, kEpsilon));
  pool = register_parameter("pool", torch::zeros({options.width}));
  position = register_buffer("position", sincos_positions(side, side, options.width));
}

ImageFeatures ImagePatchesImpl::forward(const at::Tensor& images) {
  const int64_t size = options_.image_size;
  TORCH_CHECK(images.dim() == 4 && images.size(1) == 3 && images.size(2) == size,
              "this image encoder wants (B, 3, ", size, ", ", size, "), got ", images.sizes());
  const at::Tensor pixels = to_patches(images, options_.patch);
  const int64_t batch = pixels.size(0), count = pixels.size(1);
  const at::Tensor embedded = as_residual(embedding->forward(pixels.flatten(0, 1)));
  at::Tensor rows = (embedded.view({batch, count, -1}) + position).flatten(0, 1);
  rows = run_pre_norm_blocks(blocks, rows, mask_.repeated(batch));
  const at::Tensor patches = norm->forward(rows).view({batch, count, -1});
  const at::Tensor weight = at::softmax(patches.mul(pool).sum(2, true), 1);
  return {patches, patches.mul(weight).sum(1)};
}

}  // namespace espalier
