#pragma once

#include <string>
#include <vector>

#include <torch/torch.h>
#include <nlohmann/json.hpp>

namespace espalier {

// Compares what a device computed with what the CPU did, tensor by tensor, by |got - expected| /
// |expected| (Euclidean norms). fp32 sums in another order differ by 1e-7 to 1e-5; TF32 products by
// 3e-4, so that the allowed error finds them; bf16 ones by 1e-3 to 1e-2.
class Closeness {
 public:
  explicit Closeness(double allowed) : allowed_(allowed) {}

  // `scale`: a norm below which the expected one is no measure, such as that of a gradient which
  // is zero but for rounding.
  void add(const std::string& name, const at::Tensor& got, const at::Tensor& expected,
           double scale = 0.0);
  // Gradients of the two modules' parameters, which have the same names; 1e-5 of the largest one's
  // norm is the scale. A gradient that only one of them has fails.
  void add_gradients(const torch::nn::Module& got, const torch::nn::Module& expected);

  bool holds() const { return wrong_.empty() && count_ > 0; }
  // How many tensors, the worst error with its name, and those that are too far off.
  nlohmann::json figures() const;

 private:
  double allowed_;
  double worst_ = 0.0;
  std::string worst_name_;
  int64_t count_ = 0;
  std::vector<std::string> wrong_;
};

// A copy of a module's parameters and buffers into those of another one of the same shape.
void copy_state(torch::nn::Module& to, const torch::nn::Module& from);

}  // namespace espalier
