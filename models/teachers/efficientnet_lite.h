#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/weights/safetensors.h"

namespace espalier {

// EfficientNet-Lite0 (no squeeze-and-excitation, ReLU6, fixed stem and head), for inference only: a
// frozen teacher. Batch norms are folded into the convolutions when the weights are loaded.
class EfficientNetLite0 {
 public:
  static constexpr int64_t kChannels = 1280;
  static constexpr int64_t kStride = 32;

  // Keys of the public PyTorch port: "_conv_stem.weight", "_blocks.3._bn1.running_mean", ... The
  // classifier is not read. Throws WeightsError naming the first tensor that is missing or has
  // another shape; `path` is for messages.
  EfficientNetLite0(const TensorMap& weights, const std::string& path);

  // RGB levels 0..255, (B, 3, S, S), S a multiple of 32 -> features before pooling, fp32,
  // (B, S/32 * S/32, 1280), positions row by row.
  at::Tensor features(const at::Tensor& levels) const;

 private:
  struct Convolution {
    at::Tensor weight, bias;
    int64_t stride = 1;
    int64_t groups = 1;
  };
  struct Block {
    std::vector<Convolution> layers;  // expand (absent at ratio 1), depthwise, project
    bool has_skip = false;
  };

  static at::Tensor convolve(const at::Tensor& map, const Convolution& layer);

  Convolution stem_, head_;
  std::vector<Block> blocks_;
};

}  // namespace espalier
