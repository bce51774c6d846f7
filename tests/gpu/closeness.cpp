#include "tests/gpu/closeness.h"

#include <algorithm>

namespace espalier {
namespace {

constexpr double kNegligibleGradient = 1e-5;

double euclidean(const at::Tensor& tensor) {
  return tensor.to(at::kCPU).to(at::kDouble).norm().item<double>();
}

}  // namespace

void Closeness::add(const std::string& name, const at::Tensor& got, const at::Tensor& expected,
                    double scale) {
  ++count_;
  if (!got.defined() || !expected.defined() || got.sizes() != expected.sizes()) {
    wrong_.push_back(name + ": missing on one side, or of another shape");
    return;
  }
  const at::Tensor reference = expected.to(at::kCPU).to(at::kDouble);
  const double size = std::max({euclidean(reference), scale, 1e-30});
  const double error = euclidean(got.to(at::kCPU).to(at::kDouble) - reference) / size;
  // Not a number is no number below the bound.
  const bool is_worst = !(error <= worst_);
  if (is_worst) {
    worst_ = error;
    worst_name_ = name;
  }
  if (!(error <= allowed_)) wrong_.push_back(name + ": " + std::to_string(error));
}

void Closeness::add_gradients(const torch::nn::Module& got, const torch::nn::Module& expected) {
  const auto gradients = got.named_parameters();
  double scale = 0.0;
  for (const auto& parameter : expected.named_parameters()) {
    const at::Tensor& gradient = parameter.value().grad();
    if (gradient.defined()) scale = std::max(scale, kNegligibleGradient * euclidean(gradient));
  }
  for (const auto& parameter : expected.named_parameters()) {
    const at::Tensor& mine = gradients[parameter.key()].grad();
    const at::Tensor& theirs = parameter.value().grad();
    if (!mine.defined() && !theirs.defined()) continue;  // of a branch that did not run
    add("gradient of " + parameter.key(), mine, theirs, scale);
  }
}

nlohmann::json Closeness::figures() const {
  return {{"tensors", count_},
          {"allowed", allowed_},
          {"worst_relative_error", worst_},
          {"worst_tensor", worst_name_},
          {"too_far", wrong_}};
}

void copy_state(torch::nn::Module& to, const torch::nn::Module& from) {
  const torch::NoGradGuard no_grad;
  const auto parameters = from.named_parameters();
  for (auto& parameter : to.named_parameters()) {
    parameter.value().copy_(parameters[parameter.key()]);
  }
  const auto buffers = from.named_buffers();
  for (auto& buffer : to.named_buffers()) buffer.value().copy_(buffers[buffer.key()]);
}

}  // namespace espalier
