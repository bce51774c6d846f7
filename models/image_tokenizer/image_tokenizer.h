#pragma once

#include <cstdint>

#include <torch/torch.h>

#include "models/image_tokenizer/residual_vq.h"
#include "models/image_tokenizer/tokenizer_parts.h"

namespace espalier {

struct ImageTokenizerOptions {
  int64_t image_size = 32;  // pixels; 4 times latent_size
  int64_t latent_size = 8;  // positions per side
  int64_t latent_channels = 32;
  int64_t codebook_size = 256;
  int64_t pixel_stages = 4;
  int64_t semantic_stages = 2;
  int64_t width = 64;  // channels at twice the latent's resolution; twice this at the latent
  int64_t encoder_blocks = 3;  // residual blocks at the latent's resolution
  int64_t decoder_blocks = 3;
  int64_t teacher_channels = 1280;  // its map has half the latent's resolution
  int64_t folds = 4;                // pieces of the teacher's channels compared one by one
  double codebook_decay = 0.98;
  double restart_below =
      1.0;  // vectors per step, averaged, below which a code is restarted; 0 = never

  int64_t stages() const { return pixel_stages + semantic_stages; }
  int64_t positions() const { return latent_size * latent_size; }
  int64_t semantic_channels() const { return 2 * width; }
  int64_t encoder_channels() const { return 2 * width; }
};

// What one training forward sees, already on the model's device.
struct TokenizerBatch {
  at::Tensor images;          // (B, 3, S, S) in [-1, 1]
  at::Tensor pixel_depth;     // (B) int64: how many pixel stages reach the pixel decoder
  at::Tensor semantic_depth;  // (B) int64: how many of all stages reach the semantic decoder
  at::Tensor teacher;         // (B, L / 4, teacher_channels), centred
};

// Sums over their targets, scalar fp32, and how many targets: divide for the mean.
struct TokenizerLosses {
  at::Tensor pixel;       // squared error; B * 3 * S * S
  at::Tensor commitment;  // (latent - sum up to each stage)^2; stages * B * L * d
  at::Tensor semantic;    // cosine and fold of the semantic decoder; B * L / 4
  at::Tensor patches;     // (B, L, 48): the images, for others who learn from the same batch
  at::Tensor latents;     // (B * L, d) fp32, detached, for the codebook statistics
  Quantized quantized;
};

// One image in: a latent of H x W positions, quantized in cascaded stages. The pixel decoder reads
// the first `pixel_stages`, the semantic decoder all of them (EvoTok). The encoder may be lent to
// others who train it too (MaskedPatches, models/masked_autoencoder/).
//
// images (B, 3, S, S) in [-1, 1]; codes (B, H*W, stages) int64, positions row by row.
class ImageTokenizerImpl : public torch::nn::Module {
 public:
  explicit ImageTokenizerImpl(const ImageTokenizerOptions& options);

  // Frozen use: no gradients, any batch size.
  at::Tensor encode(const at::Tensor& images);                      // codes
  at::Tensor embed(const at::Tensor& codes, int64_t stages) const;  // (B, H*W, latent_channels)
  // From the first `stages` (0 = all pixel stages) of codes that have at least as many.
  at::Tensor decode_pixels(const at::Tensor& codes, int64_t stages = 0);
  // What the semantic decoder makes of the first `stages` (0 = all), before its projection to the
  // teacher's channels: (B, H*W, semantic_channels). The image input of an understanding model.
  at::Tensor semantic(const at::Tensor& codes, int64_t stages = 0);
  // The same, projected: (B, H*W / 4, teacher_channels).
  at::Tensor teacher_space(const at::Tensor& codes, int64_t stages = 0);
  at::Tensor codebooks() const { return quantizer->codebooks; }  // (stages, K, latent_channels)
  const ImageTokenizerOptions& options() const { return options_; }

  TokenizerLosses losses(const TokenizerBatch& batch);

 private:
  at::Tensor quantized_at(const Quantized& quantized, const at::Tensor& depth) const;

  ImageTokenizerOptions options_;

 public:
  Encoder encoder{nullptr};
  torch::nn::Linear to_latent{nullptr};
  ResidualQuantizer quantizer{nullptr};
  PixelDecoder pixel_decoder{nullptr};
  SemanticDecoder semantic_decoder{nullptr};
};
TORCH_MODULE(ImageTokenizer);

}  // namespace espalier
