#pragma once

#include <cstdint>

#include <torch/torch.h>

#include "models/image_tokenizer/conv_blocks.h"
#include "models/image_tokenizer/tokenizer_parts.h"
#include "models/masked_autoencoder/masking.h"

namespace espalier {

// The light decoder of a masked autoencoder: visible features and a learned token at every masked
// place, to the pixels of all patches.
struct MaskedDecoderImpl : torch::nn::Module {
  MaskedDecoderImpl(int64_t positions, int64_t encoder_channels, int64_t width);
  // (B * keep, encoder_channels), (B, keep) int64 -> (B, L, 48)
  at::Tensor forward(const at::Tensor& visible_features, const at::Tensor& visible);

  torch::nn::Linear from_encoder{nullptr}, out{nullptr};
  ResidualBlocks blocks{nullptr};
  at::Tensor mask_token;  // (width)
  at::Tensor position;    // (L, width)
};
TORCH_MODULE(MaskedDecoder);

struct MaskedPatchesOptions {
  int64_t positions = 64;           // L: patches of an image, a square
  int64_t encoder_channels = 128;   // of the encoder's features: twice its width
  int64_t width = 64;               // channels of the decoder of masked patches
  int64_t teacher_channels = 1280;  // its map has half the patches' resolution
  int64_t folds = 4;                // pieces of the teacher's channels compared one by one
};

// Sums over their targets, scalar fp32, and how many targets: divide for the mean.
struct MaskedPatchesLosses {
  at::Tensor mimic;        // cosine and fold at visible patches; B * keep
  at::Tensor reconstruct;  // squared error of masked patches; B * (L - keep) * 48
};

// What an encoder is trained with when it sees only some patches (MR-MAE): a head that says, at the
// visible patches, what a frozen teacher sees there (mimic), and a decoder that paints the masked
// ones (reconstruct). Each loss reaches the encoder and its own part, never the other's. The
// encoder belongs to whoever calls: it is only borrowed.
class MaskedPatchesImpl : public torch::nn::Module {
 public:
  explicit MaskedPatchesImpl(const MaskedPatchesOptions& options);

  // patches (B, L, 48) as image_to_patches() makes them, teacher (B, L / 4, teacher_channels).
  MaskedPatchesLosses losses(Encoder& encoder, const at::Tensor& patches, const VisibleGrid& grid,
                             const at::Tensor& teacher);
  // Frozen use: the mimic head at the visible patches of images (B, 3, S, S) in [-1, 1]:
  // (B * keep, teacher_channels) fp32.
  at::Tensor mimic(Encoder& encoder, const at::Tensor& images, const VisibleGrid& grid);
  // What the decoder paints in all patches: (B, L, 48) fp32.
  at::Tensor reconstruct(Encoder& encoder, const at::Tensor& patches, const VisibleGrid& grid);

  const MaskedPatchesOptions& options() const { return options_; }

  torch::nn::Linear mimic_head{nullptr};
  MaskedDecoder masked_decoder{nullptr};

 private:
  MaskedPatchesOptions options_;
};
TORCH_MODULE(MaskedPatches);

// Row of the teacher's map (of B * L / 4) under each visible patch, for patches of a square of
// latent_size x latent_size: visible (B, keep) int64 -> (B * keep).
at::Tensor teacher_rows(const at::Tensor& visible, int64_t latent_size);

}  // namespace espalier
