// The image side: EvoTok's tokenizer, and the masked patches that share its encoder.
#include "models/image_tokenizer/image_tokenizer.h"
#include "models/masked_autoencoder/masked_patches.h"
#include "tests/gpu/module_checks.h"

namespace espalier {
namespace {

constexpr int64_t kImages = 6;
constexpr int64_t kVisible = 16;  // of 64 patches
constexpr int64_t kTeacherChannels = 160;

ImageTokenizerOptions options() {
  ImageTokenizerOptions o;
  o.teacher_channels = kTeacherChannels;
  return o;
}

ImageTokenizer tokenizer_with_codes() {
  torch::manual_seed(11);
  ImageTokenizer model(options());
  // Codebooks start at next to nothing, where the choice of a code is a matter of rounding.
  const torch::NoGradGuard no_grad;
  model->quantizer->codebooks.normal_();
  return model;
}

TokenizerBatch batch() {
  torch::manual_seed(12);
  const ImageTokenizerOptions o = options();
  return {.images = torch::rand({kImages, 3, o.image_size, o.image_size}) * 2 - 1,
          .pixel_depth = torch::randint(1, o.pixel_stages + 1, {kImages}, at::kLong),
          .semantic_depth = torch::randint(1, o.stages() + 1, {kImages}, at::kLong),
          .teacher = torch::randn({kImages, o.positions() / 4, kTeacherChannels})};
}

TokenizerBatch on(at::Device device, const TokenizerBatch& b) {
  return {.images = b.images.to(device),
          .pixel_depth = b.pixel_depth.to(device),
          .semantic_depth = b.semantic_depth.to(device),
          .teacher = b.teacher.to(device)};
}

at::Tensor total(const TokenizerLosses& losses) {
  const ImageTokenizerOptions o = options();
  return losses.pixel / (kImages * 3 * o.image_size * o.image_size) +
         losses.commitment / static_cast<double>(o.stages() * losses.latents.numel()) +
         losses.semantic / (kImages * o.positions() / 4);
}

}  // namespace

ModuleCheck check_tokenizer(at::Device device) {
  ImageTokenizer model = tokenizer_with_codes();
  ImageTokenizer other = tokenizer_with_codes();
  other->to(device);
  const TokenizerLosses expected = model->losses(batch());
  const TokenizerLosses got = other->losses(on(device, batch()));
  ModuleCheck check;
  check.fp32.add("codes", got.quantized.codes, expected.quantized.codes);
  check.fp32.add("quantized", got.quantized.sums, expected.quantized.sums);
  check.fp32.add("latents", got.latents, expected.latents);
  check.fp32.add("pixel loss", got.pixel, expected.pixel);
  check.fp32.add("commitment loss", got.commitment, expected.commitment);
  check.fp32.add("semantic loss", got.semantic, expected.semantic);
  total(expected).backward();
  total(got).backward();
  check.fp32.add_gradients(*other, *model);

  // One update of the codebooks by the statistics of this batch.
  const at::Tensor candidates = torch::arange(options().stages() * options().codebook_size)
                                    .view({options().stages(), -1})
                                    .remainder(expected.latents.size(0));
  for (auto* side : {&model, &other}) {
    ResidualQuantizer& quantizer = (*side)->quantizer;
    const TokenizerLosses& seen = side == &model ? expected : got;
    at::Tensor statistics = quantizer->new_statistics();
    quantizer->add_statistics(seen.latents, seen.quantized, candidates.to(seen.latents.device()),
                              statistics);
    quantizer->update(statistics);
  }
  check.fp32.add("updated codebooks", other->codebooks(), model->codebooks());
  check.fp32.add("painted pixels", other->decode_pixels(got.quantized.codes.view({kImages, -1, 6})),
                 model->decode_pixels(expected.quantized.codes.view({kImages, -1, 6})));
  return check;
}

ModuleCheck check_masked_autoencoder(at::Device device) {
  const ImageTokenizerOptions o = options();
  const MaskedPatchesOptions masked_options{.positions = o.positions(),
                                            .encoder_channels = o.encoder_channels(),
                                            .teacher_channels = kTeacherChannels};
  torch::manual_seed(13);
  Encoder encoder(o.width, o.encoder_blocks);
  MaskedPatches masked(masked_options);
  Encoder other_encoder(o.width, o.encoder_blocks);
  MaskedPatches other(masked_options);
  copy_state(*other_encoder, *encoder);
  copy_state(*other, *masked);
  other_encoder->to(device);
  other->to(device);

  const TokenizerBatch images = batch();
  const at::Tensor patches = image_to_patches(images.images);
  const at::Tensor visible =
      mask_from_noise(torch::rand({kImages, o.positions()}), kVisible).visible().contiguous();
  const VisibleGrid grid = make_visible_grid(visible, o.latent_size);
  const VisibleGrid there{grid.visible.to(device), grid.fine_neighbours.to(device),
                          grid.coarse_neighbours.to(device)};
  const auto expected = masked->losses(encoder, patches, grid, images.teacher);
  const auto got =
      other->losses(other_encoder, patches.to(device), there, images.teacher.to(device));
  ModuleCheck check;
  check.fp32.add("mimic loss", got.mimic, expected.mimic);
  check.fp32.add("reconstruct loss", got.reconstruct, expected.reconstruct);
  (expected.mimic / (kImages * kVisible) + expected.reconstruct / (kImages * 48 * 48)).backward();
  (got.mimic / (kImages * kVisible) + got.reconstruct / (kImages * 48 * 48)).backward();
  check.fp32.add_gradients(*other_encoder, *encoder);
  check.fp32.add_gradients(*other, *masked);
  check.fp32.add("painted patches", other->reconstruct(other_encoder, patches.to(device), there),
                 masked->reconstruct(encoder, patches, grid));
  return check;
}

}  // namespace espalier
