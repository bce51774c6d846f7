#include "trainer/evaluation/pca.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/torch.h>

#include <algorithm>

namespace espalier {
namespace {

constexpr int64_t kSpareDirections = 16;  // carried along: those wanted converge faster
constexpr int kIterations = 12;
constexpr uint64_t kSeed = 1;

at::Tensor orthonormal(const at::Tensor& columns) { return std::get<0>(at::linalg_qr(columns)); }

// The `count` eigenvectors of xᵀx (D, D) of largest eigenvalue, as columns, for x (N, D).
at::Tensor leading_directions(const at::Tensor& x, int64_t count) {
  const int64_t block = std::min(count + kSpareDirections, std::min(x.size(0), x.size(1)));
  at::Generator generator = at::detail::createCPUGenerator(kSeed);
  at::Tensor basis = orthonormal(at::randn({x.size(1), block}, generator, x.options()));
  for (int i = 0; i < kIterations; ++i) basis = orthonormal(at::mm(x.t(), at::mm(x, basis)));
  // The block spans the right space by now; within it the problem is small and solved exactly.
  const at::Tensor seen = at::mm(x, basis).to(at::kDouble);
  const at::Tensor rotation = std::get<1>(at::linalg_eigh(at::mm(seen.t(), seen)));  // ascending
  return at::mm(basis, rotation.flip(1).narrow(1, 0, count).to(x.scalar_type()));
}

}  // namespace

PcaCodec::PcaCodec(const at::Tensor& training, int64_t count) {
  const torch::NoGradGuard no_gradient;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const at::Tensor x = training.flatten(1).to(at::kFloat);
  TORCH_CHECK(x.size(0) > 0 && count > 0, "pca: no images or no components");
  mean_ = x.mean(0);
  const at::Tensor centred = x - mean_;
  components_ = leading_directions(centred, std::min({count, x.size(0), x.size(1)}));
  const at::Tensor coefficients = at::mm(centred, components_);
  low_ = coefficients.amin(0);
  step_ = (coefficients.amax(0) - low_).div_(255.0).clamp_min_(1e-12);
}

at::Tensor PcaCodec::reconstruct(const at::Tensor& images) const {
  const torch::NoGradGuard no_gradient;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const at::Tensor coefficients = at::mm(images.flatten(1).to(at::kFloat) - mean_, components_);
  const at::Tensor codes = (coefficients - low_).div_(step_).round_().clamp_(0.0, 255.0);
  return at::addmm(mean_, codes.mul_(step_).add_(low_), components_.t())
      .clamp_(-1.0, 1.0)
      .view_as(images);
}

}  // namespace espalier
