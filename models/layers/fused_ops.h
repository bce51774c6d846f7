#pragma once

#include <utility>

#include <ATen/core/Tensor.h>

// Row operations of a transformer, differentiable. On CPU in fp32 and bf16 each is one pass over
// its inputs (models/kernels/); elsewhere it is composed of ATen operations, which also are what
// the tests compare with.
namespace espalier {

// The type matrix products run in: autocast's, where it is on for the device, else fp32.
at::ScalarType compute_type(const at::Tensor& on_device);

// Returns (x + delta, rms_norm(x + delta) * weight). x is the residual stream in fp32; delta (may
// be undefined) is the output of the layer before, in the compute type, as is the second result.
std::pair<at::Tensor, at::Tensor> add_rms_norm(const at::Tensor& x_ND, const at::Tensor& delta_ND,
                                               const at::Tensor& weight_D, double epsilon);

// Rows of [gate | up]: silu(gate) * up.
at::Tensor swiglu(const at::Tensor& gate_up_N2F);

// Sum over rows of -log softmax(logits)[target]; fp32 scalar.
at::Tensor cross_entropy_sum(const at::Tensor& logits_NK, const at::Tensor& targets_N);

// The same, composed of ATen operations on any device.
std::pair<at::Tensor, at::Tensor> composed_add_rms_norm(const at::Tensor& x_ND,
                                                        const at::Tensor& delta_ND,
                                                        const at::Tensor& weight_D, double epsilon);
at::Tensor composed_swiglu(const at::Tensor& gate_up_N2F);
at::Tensor composed_cross_entropy_sum(const at::Tensor& logits_NK, const at::Tensor& targets_N);

}  // namespace espalier
