#pragma once

#include <ATen/core/Tensor.h>

#include "models/attention/attention_mask.h"
#include "models/attention/rotary.h"

namespace espalier {

struct AttentionHeads {
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads; each serves heads / kv_heads query heads
  int64_t head_dim = 0;

  int64_t row_width() const { return (heads + 2 * kv_heads) * head_dim; }
  bool operator==(const AttentionHeads&) const = default;
};

// Rows of heads, one for each query or row of a mask; views, dense in the last dimension.
struct AttentionRows {
  at::Tensor q;  // (queries, heads * head_dim)
  at::Tensor k;  // (rows, kv_heads * head_dim)
  at::Tensor v;
};

// Whether the project's own kernel takes them: CPU, fp32 or bf16, heads of whole vectors.
bool has_attention_kernel(const at::Tensor& rows, const AttentionHeads& heads);

struct KernelResult {
  at::Tensor out;      // (queries, heads * head_dim), contiguous, of the type of `rows`
  at::Tensor log_sum;  // (queries, heads) fp32: what backward needs besides
};
// Runs it over all samples, components and key-value heads of the mask. Undefined tables: not
// rotated.
KernelResult kernel_attention(const AttentionRows& rows, const AttentionMask& mask,
                              const AttentionHeads& heads, const RotaryTable& table);

// `grads` has the shapes of `rows`; every element is written, but for rows that nobody sees and
// that do not ask, which stay as they are.
void kernel_attention_backward(const AttentionRows& rows, const AttentionMask& mask,
                               const AttentionHeads& heads, const RotaryTable& table,
                               const KernelResult& result, const at::Tensor& grad_out,
                               const AttentionRows& grads);

}  // namespace espalier
