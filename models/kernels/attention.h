#pragma once

#include <cstdint>

#include "models/kernels/simd.h"

// Attention over packed sequences on CPU: no padding, no mask, no copies around it. A unit
// of work is one sequence and one key-value head, small enough (a hundred tokens) to stay in the
// level 2 cache. Arithmetic is in fp32 whatever the storage.
namespace espalier::kernels {

// Token t of a sequence is row `first + t * stride` of the packed matrix. It sees the tokens up to
// itself, or all of them where the sequence is not causal.
struct SequenceRows {
  int64_t first = 0;
  int64_t stride = 1;
  int64_t length = 0;
  int64_t position = 0;  // rotary position of token 0
  bool is_causal = true;
};

// A packed row is [query heads | key heads | value heads], each head_dim wide. `cosines` and
// `sines` (positions x head_dim/2, null = no rotation) rotate the first half of a head against the
// second.
struct AttentionShape {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;  // a multiple of 16
  const float* cosines = nullptr;
  const float* sines = nullptr;

  int64_t row_width() const { return (heads + 2 * kv_heads) * head_dim; }
};

int64_t attention_scratch_floats(const AttentionShape& shape, int64_t length);

// out: rows of heads * head_dim. log_sum (rows x heads) keeps each query's logsumexp for backward.
void attention(const AttentionShape& shape, const SequenceRows& rows, int64_t kv_head,
               const float* qkv, float* out, float* log_sum, float* scratch);
void attention(const AttentionShape& shape, const SequenceRows& rows, int64_t kv_head,
               const simd::Bfloat16* qkv, simd::Bfloat16* out, float* log_sum, float* scratch);

// Writes every element of grad_qkv that belongs to this sequence and head.
void attention_backward(const AttentionShape& shape, const SequenceRows& rows, int64_t kv_head,
                        const float* qkv, const float* log_sum, const float* grad_out,
                        float* grad_qkv, float* scratch);
void attention_backward(const AttentionShape& shape, const SequenceRows& rows, int64_t kv_head,
                        const simd::Bfloat16* qkv, const float* log_sum,
                        const simd::Bfloat16* grad_out, simd::Bfloat16* grad_qkv, float* scratch);

}  // namespace espalier::kernels
