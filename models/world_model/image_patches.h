#pragma once

#include <cstdint>

#include <torch/torch.h>

#include "models/layers/pre_norm_block.h"

namespace espalier {

// (B, C, S, S) -> (B, (S/p)^2, p * p * C): patches row by row, and in a patch pixel by pixel with
// the channels of a pixel together, as the masked autoencoder's patchify. Throws c10::Error when p
// does not divide S.
at::Tensor to_patches(const at::Tensor& images, int64_t patch);
// The inverse, for pictures of what a decoder drew.
at::Tensor from_patches(const at::Tensor& patches, int64_t patch);

struct ImagePatchesOptions {
  int64_t image_size = 64;
  int64_t patch = 8;  // divides image_size
  int64_t width = 128;
  int64_t blocks = 2;  // 0: embedding and positions alone
  int64_t heads = 4;
  int64_t mlp_width = 512;
};

struct ImageFeatures {
  at::Tensor patches;      // (B, (S/p)^2, width) fp32
  at::Tensor class_token;  // (B, width) fp32
};

// A small vision transformer that is trained from scratch. DreamVLA reads a frozen MAE ViT-B and
// its class token here; ours pools instead: a mean weighted by a learned score per patch, which
// starts as the plain mean.
class ImagePatchesImpl : public torch::nn::Module {
 public:
  explicit ImagePatchesImpl(const ImagePatchesOptions& options);
  // (B, 3, S, S) fp32
  ImageFeatures forward(const at::Tensor& images);

  Linear embedding{nullptr};
  torch::nn::ModuleList blocks{nullptr};
  torch::nn::LayerNorm norm{nullptr};
  at::Tensor pool;      // (width): a patch scores its product with this
  at::Tensor position;  // ((S/p)^2, width), fixed

 private:
  ImagePatchesOptions options_;
  AttentionMask mask_;  // of one sample
};
TORCH_MODULE(ImagePatches);

}  // namespace espalier
