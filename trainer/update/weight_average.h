#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/weights/safetensors.h"

namespace espalier {

// Exponential moving average of parameters (EMA). The decay rises to its final value over the first
// steps, so that the average is not held back by the random start.
class WeightAverage {
 public:
  // decay 0 = off: nothing is kept and every call is a no-op.
  WeightAverage(std::vector<at::Tensor> parameters, const std::vector<std::string>& names,
                double decay);

  bool is_on() const { return !averages_.empty(); }
  // `applies` as Objective::after_update() has it: where it is false, nothing changes.
  void update(int64_t step, const at::Tensor& applies = {});
  // Exchanges weights and averages; twice is the identity.
  void swap();
  // The averages become the weights.
  void adopt();
  TensorMap state() const { return state_; }

 private:
  std::vector<at::Tensor> parameters_, averages_;
  double decay_;
  TensorMap state_;
};

}  // namespace espalier
