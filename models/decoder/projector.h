#pragma once

#include <cstdint>

#include <torch/torch.h>

#include "models/layers/linear.h"

namespace espalier {

// Two-layer perceptron from the image side into the model's width: (N, in_features) -> (N, width).
class ProjectorImpl : public torch::nn::Module {
 public:
  ProjectorImpl(int64_t in_features, int64_t width);
  at::Tensor forward(const at::Tensor& x);

 private:
  Linear in_{nullptr}, out_{nullptr};
};
TORCH_MODULE(Projector);

}  // namespace espalier
