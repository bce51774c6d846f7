#include "trainer/interference/gradient_sums.h"

#include <ATen/record_function.h>
#include <torch/torch.h>

namespace espalier {

using Clock = std::chrono::steady_clock;

GradientSums::GradientSums(std::vector<at::Tensor> parameters, int64_t objectives)
    : parameters_(std::move(parameters)), objectives_(objectives) {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    offsets_.push_back(numbers_);
    numbers_ += parameters_[i].numel();
    // Once, not at every measure: LibTorch keeps the place of a hook that is removed.
    hooks_.push_back(parameters_[i].register_hook(
        [this, i](const at::Tensor& gradient) { on_gradient(i, gradient); }));
  }
}

GradientSums::~GradientSums() {
  for (size_t i = 0; i < parameters_.size(); ++i) parameters_[i].remove_hook(hooks_[i]);
}

void GradientSums::start() {
  sums_ = at::zeros({2 * objectives_, numbers_},
                    parameters_.front().options().requires_grad(false).dtype(at::kFloat));
  hook_seconds_ = 0;
}

double GradientSums::bytes() const {
  const auto rows = static_cast<double>(2 * objectives_);
  return rows * static_cast<double>(numbers_) * static_cast<double>(parameters_[0].element_size());
}

void GradientSums::stop() {
  caught_.clear();
  sums_.reset();
}

std::vector<at::Tensor> GradientSums::views_of(int64_t objective, size_t half) const {
  const at::Tensor row = sums_.select(0, 2 * objective + static_cast<int64_t>(half));
  std::vector<at::Tensor> views;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    views.push_back(
        row.narrow(0, offsets_[i], parameters_[i].numel()).view(parameters_[i].sizes()));
  }
  return views;
}

void GradientSums::catch_next(int64_t objective, size_t half) {
  caught_ = views_of(objective, half);
}

void GradientSums::on_gradient(size_t index, const at::Tensor& gradient) {
  if (caught_.empty() || !gradient.defined()) return;
  const auto start = Clock::now();
  const torch::NoGradGuard no_grad;
  caught_[index].add_(gradient);
  hook_seconds_ += std::chrono::duration<double>(Clock::now() - start).count();
}

void GradientSums::add(int64_t objective, size_t half, const at::Tensor& loss) {
  catch_none();
  // What a step works is counted while it trains; this is no part of it.
  const at::RecordFunctionGuard uncounted(/*is_enabled=*/false);
  const std::vector<at::Tensor> gradients =
      torch::autograd::grad({loss}, parameters_, {}, /*retain_graph=*/true, /*create_graph=*/false,
                            /*allow_unused=*/true);
  const torch::NoGradGuard no_grad;
  const std::vector<at::Tensor> views = views_of(objective, half);
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (gradients[i].defined()) views[i].add_(gradients[i]);
  }
}

}  // namespace espalier
