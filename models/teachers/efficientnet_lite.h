#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/teachers/teacher.h"
#include "models/weights/safetensors.h"

namespace espalier {

// EfficientNet-Lite0 (no squeeze-and-excitation, ReLU6, fixed stem and head), for inference only: a
// frozen teacher. Batch norms are folded into the convolutions when the weights are loaded.
class EfficientNetLite0 : public Teacher {
 public:
  static constexpr int64_t kChannels = 1280;
  static constexpr int64_t kStride = 32;

  // Keys of the public PyTorch port: "_conv_stem.weight", "_blocks.3._bn1.running_mean", ... The
  // classifier is not read. Throws WeightsError naming the first tensor that is missing or has
  // another shape; `path` is for messages.
  EfficientNetLite0(const TensorMap& weights, const std::string& path);

  std::string name() const override { return "efficientnet-lite0"; }
  int64_t stride() const override { return kStride; }
  int64_t channels() const override { return kChannels; }
  // Of the last layer before pooling.
  at::Tensor features(const at::Tensor& levels) const override;
  void to(at::Device device) override;

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
