#pragma once

#include <cstdint>
#include <utility>

#include <torch/torch.h>

namespace espalier {

// y = x W^T + b on rows, in the compute type (bf16 under autocast). Differs from torch::nn::Linear
// in cost only: the bf16 copy of the weight is made once per change of the weight, not once per
// use, and on processors where it is faster the fp32 product runs in oneDNN instead of MKL. A row's
// output, and its gradient, do not depend on the other rows (batch_invariance.h).
class LinearImpl : public torch::nn::Module {
 public:
  LinearImpl(int64_t in_features, int64_t out_features, bool with_bias = false);
  // Of a weight that is another module's parameter: it has none itself.
  explicit LinearImpl(at::Tensor shared_weight) : weight(std::move(shared_weight)) {}

  at::Tensor forward(const at::Tensor& x);

  // For weights that change where autograd's version counter does not see it.
  void forget_cached_weight() { cached_.reset(); }

  at::Tensor weight;  // (out, in)
  at::Tensor bias;    // (out), undefined without

 private:
  at::Tensor compute_weight(at::ScalarType type);

  at::Tensor cached_;
  // Of the weight that cached_ was made from.
  uint32_t cached_version_ = 0;
  const void* cached_storage_ = nullptr;
};
TORCH_MODULE(Linear);

// What multiplies fp32 matrices on the CPU, process-wide: for tests of the other library's path.
enum class Fp32Library { kFaster, kMkl, kOneDnn };
void set_fp32_library(Fp32Library library);

}  // namespace espalier
