#include "models/attention/fused_attention.h"

#include <torch/torch.h>

#include <limits>

namespace espalier {
namespace {

// The memory-efficient kernel reads logsumexps in rows of this many.
constexpr int64_t kLogSumAlignment = 32;

at::Tensor aligned(const at::Tensor& log_sum_exp) {
  const int64_t length = log_sum_exp.size(2);
  const int64_t padded = (length + kLogSumAlignment - 1) / kLogSumAlignment * kLogSumAlignment;
  return at::constant_pad_nd(log_sum_exp, {0, padded - length},
                             std::numeric_limits<float>::infinity());
}

}  // namespace

FusedKernel fused_kernel_for(at::Device device, at::ScalarType type, int64_t head_dim) {
  const bool is_half = type == at::kBFloat16 || type == at::kHalf;
  if (device.is_cpu()) {
    return type == at::kFloat || type == at::kBFloat16 ? FusedKernel::kCpuFlash
                                                       : FusedKernel::kNone;
  }
  // Both want rows of whole 16-byte words.
  if (device.is_cuda() && is_half && head_dim % 8 == 0 && head_dim <= 256) {
    return FusedKernel::kCudaFlash;
  }
  if (device.is_cuda() && type == at::kFloat && head_dim % 4 == 0) {
    return FusedKernel::kCudaEfficient;
  }
  return FusedKernel::kNone;
}

std::string to_string(FusedKernel kernel) {
  switch (kernel) {
    case FusedKernel::kNone:
      return "no fused kernel";
    case FusedKernel::kCpuFlash:
      return "flash attention (CPU)";
    case FusedKernel::kCudaFlash:
      return "flash attention (CUDA)";
    case FusedKernel::kCudaEfficient:
      return "memory-efficient attention (CUDA)";
  }
  return "";
}

std::string attention_path(at::Device device, at::ScalarType type, int64_t head_dim) {
  const FusedKernel kernel = fused_kernel_for(device, type, head_dim);
  if (kernel != FusedKernel::kNone) return to_string(kernel);
  return "composed attention, which writes out every score: no fused kernel on " + device.str() +
         " takes " + at::toString(type) + " with heads of width " + std::to_string(head_dim) +
         " (bfloat16 wants a multiple of 8 up to 256, float32 a multiple of 4)";
}

FusedForward fused_attention(FusedKernel kernel, const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& v, bool is_causal) {
  switch (kernel) {
    case FusedKernel::kCpuFlash: {
      const auto [out, sums] =
          at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, is_causal);
      return {out, sums, {}, {}};
    }
    case FusedKernel::kCudaFlash: {
      const auto all = at::_scaled_dot_product_flash_attention(q, k, v, 0.0, is_causal, false);
      return {std::get<0>(all), std::get<1>(all), std::get<6>(all), std::get<7>(all)};
    }
    case FusedKernel::kCudaEfficient: {
      const auto [out, sums, seed, offset] =
          at::_scaled_dot_product_efficient_attention(q, k, v, {}, true, 0.0, is_causal);
      return {out, sums.narrow(2, 0, q.size(2)), seed, offset};
    }
    case FusedKernel::kNone:
      break;
  }
  TORCH_INTERNAL_ASSERT(false, "fused_attention without a kernel");
}

FusedGradients fused_attention_backward(FusedKernel kernel, const at::Tensor& grad_out,
                                        const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, const FusedForward& forward,
                                        bool is_causal) {
  switch (kernel) {
    case FusedKernel::kCpuFlash: {
      const auto [gq, gk, gv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
          grad_out, q, k, v, forward.out, forward.log_sum_exp, 0.0, is_causal);
      return {gq, gk, gv};
    }
    case FusedKernel::kCudaFlash: {
      const auto [gq, gk, gv] = at::_scaled_dot_product_flash_attention_backward(
          grad_out, q, k, v, forward.out, forward.log_sum_exp.contiguous(), {}, {}, q.size(2),
          k.size(2), 0.0, is_causal, forward.seed, forward.offset);
      return {gq, gk, gv};
    }
    case FusedKernel::kCudaEfficient: {
      const auto [gq, gk, gv, gb] = at::_scaled_dot_product_efficient_attention_backward(
          grad_out, q, k, v, {}, forward.out, aligned(forward.log_sum_exp), forward.seed,
          forward.offset, 0.0, {true, true, true, false}, is_causal);
      return {gq, gk, gv};
    }
    case FusedKernel::kNone:
      break;
  }
  TORCH_INTERNAL_ASSERT(false, "fused_attention_backward without a kernel");
}

}  // namespace espalier
