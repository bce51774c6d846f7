#include "trainer/update/weight_average.h"

#include <algorithm>

#include <torch/torch.h>

namespace espalier {

WeightAverage::WeightAverage(std::vector<at::Tensor> parameters,
                             const std::vector<std::string>& names, double decay)
    : decay_(decay) {
  if (decay <= 0) return;
  parameters_ = std::move(parameters);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    averages_.push_back(parameters_[i].detach().clone());
    state_[names.at(i)] = averages_.back();
  }
}

void WeightAverage::update(int64_t step, const at::Tensor& applies) {
  if (!is_on()) return;
  const torch::NoGradGuard no_grad;
  const double n = static_cast<double>(step);
  const double decay = std::min(decay_, (1.0 + n) / (10.0 + n));
  if (applies.defined()) {
    const at::Tensor weight = applies.to(at::kFloat).mul_(1.0 - decay);
    at::_foreach_lerp_(averages_, parameters_, std::vector<at::Tensor>(averages_.size(), weight));
    return;
  }
  at::_foreach_lerp_(averages_, parameters_, at::Scalar(1.0 - decay));
}

void WeightAverage::swap() {
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < averages_.size(); ++i) {
    const at::Tensor weights = parameters_[i].detach().clone();
    parameters_[i].copy_(averages_[i]);
    averages_[i].copy_(weights);
  }
}

void WeightAverage::adopt() {
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < averages_.size(); ++i) parameters_[i].copy_(averages_[i]);
}

}  // namespace espalier
