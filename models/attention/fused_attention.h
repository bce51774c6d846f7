#pragma once

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

namespace espalier {

// LibTorch's attention kernels that never write out the scores and give each query's logsumexp.
enum class FusedKernel {
  kNone,           // none takes these tensors: only the composed form is left
  kCpuFlash,       // CPU, fp32 and bf16
  kCudaFlash,      // CUDA, bf16 and fp16
  kCudaEfficient,  // CUDA, fp32
};
FusedKernel fused_kernel_for(at::Device device, at::ScalarType type, int64_t head_dim);
std::string to_string(FusedKernel kernel);

// What attention of this width runs on, for the log: "flash attention (CPU)"; on a GPU without a
// kernel for it, a warning that says what to change.
std::string attention_path(at::Device device, at::ScalarType type, int64_t head_dim);

// q, k, v (B, H, n, head_dim), the last dimension dense. What backward needs besides the sums.
struct FusedForward {
  at::Tensor out;          // like q
  at::Tensor log_sum_exp;  // (B, H, n) fp32
  at::Tensor seed, offset;
};
FusedForward fused_attention(FusedKernel kernel, const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& v, bool is_causal);

struct FusedGradients {
  at::Tensor q, k, v;
};
// `forward` may be of more keys than these: with the logsumexp and output over all of them, the
// gradients are this piece's share of the whole.
FusedGradients fused_attention_backward(FusedKernel kernel, const at::Tensor& grad_out,
                                        const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, const FusedForward& forward,
                                        bool is_causal);

}  // namespace espalier
