#include "trainer/update/step_measures.h"

#include <torch/torch.h>

namespace espalier {

StepMeasures::StepMeasures(size_t losses, at::Device device)
    : losses_(static_cast<int64_t>(losses)),
      values_(at::zeros({losses_ + 2}, at::TensorOptions(at::kDouble).device(device))) {}

void StepMeasures::add(const std::vector<at::Tensor>& loss_sums, const at::Tensor& gradient_norm,
                       const at::Tensor& is_finite) {
  const torch::NoGradGuard no_grad;
  const at::Tensor none = at::zeros({}, values_.options().dtype(at::kFloat));
  std::vector<at::Tensor> all;
  for (const at::Tensor& sum : loss_sums) all.push_back(sum.defined() ? sum : none);
  if (!all.empty()) values_.narrow(0, 0, losses_).add_(at::stack(all));
  values_[losses_].copy_(gradient_norm);
  values_[losses_ + 1].add_(1).mul_(is_finite.logical_not());
}

StepMeasures::Values StepMeasures::take() {
  const torch::NoGradGuard no_grad;
  const at::Tensor host = values_.to(at::kCPU);
  const double* numbers = host.const_data_ptr<double>();
  values_.narrow(0, 0, losses_).zero_();
  return {
      {numbers, numbers + losses_}, numbers[losses_], static_cast<int64_t>(numbers[losses_ + 1])};
}

void StepMeasures::set_bad_steps(int64_t in_a_row) {
  values_[losses_ + 1].fill_(static_cast<double>(in_a_row));
}

}  // namespace espalier
