#include "models/masked_autoencoder/masked_patches.h"

#include "models/teachers/feature_losses.h"

namespace espalier {
namespace {

constexpr int64_t kDecoderBlocks = 2;
constexpr double kTokenDeviation = 0.02;

}  // namespace

MaskedDecoderImpl::MaskedDecoderImpl(int64_t positions, int64_t encoder_channels, int64_t width) {
  from_encoder = register_module("from_encoder", torch::nn::Linear(encoder_channels, width));
  blocks = register_module("blocks", ResidualBlocks(width, kDecoderBlocks));
  out = register_module("out", torch::nn::Linear(width, kPatchChannels));
  mask_token = register_parameter("mask_token", torch::randn({width}) * kTokenDeviation);
  position = register_parameter("position", torch::randn({positions, width}) * kTokenDeviation);
}

at::Tensor MaskedDecoderImpl::forward(const at::Tensor& visible_features,
                                      const at::Tensor& visible) {
  const int64_t batch = visible.size(0), keep = visible.size(1), positions = position.size(0);
  const at::Tensor features = from_encoder->forward(visible_features);
  const at::Tensor token = mask_token.to(features.scalar_type()).unsqueeze(0);
  // Row of each position in [features; token]: its own feature, or the token.
  at::Tensor source = at::full({batch, positions}, batch * keep, visible.options());
  source.scatter_(1, visible, at::arange(batch * keep, visible.options()).view({batch, keep}));
  const at::Tensor rows = at::cat({features, token}).index_select(0, source.view(-1));
  const at::Tensor map = rows.view({batch, positions, -1}) + position.to(rows.scalar_type());
  return out->forward(at::relu(blocks->forward(rows_to_map(map)))).flatten(1, 2);
}

MaskedPatchesImpl::MaskedPatchesImpl(const MaskedPatchesOptions& options) : options_(options) {
  mimic_head = register_module(
      "mimic_head", torch::nn::Linear(options.encoder_channels, options.teacher_channels));
  masked_decoder = register_module(
      "masked_decoder", MaskedDecoder(options.positions, options.encoder_channels, options.width));
}

MaskedPatchesLosses MaskedPatchesImpl::losses(Encoder& encoder, const at::Tensor& patches,
                                              const VisibleGrid& grid, const at::Tensor& teacher) {
  TORCH_CHECK(patches.size(1) == options_.positions, "the masked decoder has ", options_.positions,
              " positions, got patches ", patches.sizes());
  const at::Tensor visible = encoder->forward_visible(patches, grid);
  MaskedPatchesLosses result;
  const at::Tensor rows = teacher_rows(grid.visible, square_side(options_.positions));
  result.mimic = cosine_fold_loss(mimic_head->forward(visible),
                                  teacher.flatten(0, 1).index_select(0, rows), options_.folds);
  const at::Tensor masked = at::ones({patches.size(0), patches.size(1), 1}, patches.options())
                                .scatter_(1, grid.visible.unsqueeze(2), 0);
  result.reconstruct = (masked_decoder->forward(visible, grid.visible).to(at::kFloat) - patches)
                           .mul(masked)
                           .square()
                           .sum();
  return result;
}

at::Tensor MaskedPatchesImpl::mimic(Encoder& encoder, const at::Tensor& images,
                                    const VisibleGrid& grid) {
  const torch::NoGradGuard no_gradient;
  return mimic_head->forward(encoder->forward_visible(image_to_patches(images), grid))
      .to(at::kFloat);
}

at::Tensor MaskedPatchesImpl::reconstruct(Encoder& encoder, const at::Tensor& patches,
                                          const VisibleGrid& grid) {
  const torch::NoGradGuard no_gradient;
  return masked_decoder->forward(encoder->forward_visible(patches, grid), grid.visible)
      .to(at::kFloat);
}

at::Tensor teacher_rows(const at::Tensor& visible, int64_t latent_size) {
  const int64_t side = latent_size, half = side / 2;
  const at::Tensor row = visible.div(2 * side, "floor");
  const at::Tensor column = visible.remainder(side).div_(2, "floor");
  const at::Tensor first =
      at::arange(0, visible.size(0) * half * half, half * half, visible.options()).unsqueeze(1);
  return (row * half + column + first).view(-1);
}

}  // namespace espalier
