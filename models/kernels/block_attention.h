#pragma once

#include <cstdint>
#include <vector>

#include "models/kernels/simd.h"

// Attention under a block mask on the CPU: no scores outside the cache, no copies of gathered keys,
// nothing computed that is not seen but for the edges of 16 columns. Arithmetic is in fp32 whatever
// the storage.
namespace espalier::kernels {

inline constexpr int64_t kQueryBlock = 64;

// Consecutive places of keys.
struct KeyRange {
  int32_t first = 0;  // a multiple of 16
  int32_t count = 0;
};

// At most kQueryBlock queries that see the same ranges; in the last one, where causal_offset is not
// negative, query r of the block sees only the first causal_offset + r + 1 keys.
struct QueryBlock {
  int32_t first = 0;  // in the component's queries
  int32_t count = 0;
  int32_t first_range = 0;
  int32_t ranges = 0;
  int32_t causal_offset = -1;
};

// Groups that see each other, directly or not: nothing outside matters to them. A unit of work is
// one component of one sample and one key-value head.
struct AttentionComponent {
  std::vector<int32_t> key_rows;    // row at each place, -1 at places that only align; 16 n of them
  std::vector<int32_t> query_rows;  // row of each query
  std::vector<int32_t> queries;     // its number among the rows that ask
  std::vector<KeyRange> ranges;
  std::vector<QueryBlock> blocks;
  int64_t widest = 0;  // columns of the block that sees most, each range rounded up to 16
};

// A row is heads x head_dim. `cosines` and `sines` (positions x head_dim/2, null = no rotation)
// rotate the first half of a head against the second; `positions` is by row of a sample.
struct AttentionShape {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;  // a multiple of 16
  const float* cosines = nullptr;
  const float* sines = nullptr;
  const int64_t* positions = nullptr;
};

template <class T>
struct RowsOf {
  T* data = nullptr;
  int64_t stride = 0;  // elements from row to row

  T* row(int64_t i) const { return data + i * stride; }
};

template <class T>
struct AttentionInputs {
  RowsOf<const T> q, k, v;  // of one sample: its first query, its first row
};

template <class T>
struct AttentionOutputs {
  RowsOf<T> out;
  RowsOf<float> log_sum;  // (queries, heads): logsumexp of each query's scores, for backward
};

template <class T>
struct AttentionGradients {
  RowsOf<const T> out, grad_out;
  RowsOf<const float> log_sum;
  RowsOf<T> q, k, v;  // every element of the component and head is written
};

int64_t forward_scratch_floats(const AttentionShape& shape, const AttentionComponent& component);
int64_t backward_scratch_floats(const AttentionShape& shape, const AttentionComponent& component);

void block_attention(const AttentionShape& shape, const AttentionComponent& component,
                     int64_t kv_head, const AttentionInputs<float>& in,
                     const AttentionOutputs<float>& out, float* scratch);
void block_attention(const AttentionShape& shape, const AttentionComponent& component,
                     int64_t kv_head, const AttentionInputs<simd::Bfloat16>& in,
                     const AttentionOutputs<simd::Bfloat16>& out, float* scratch);

void block_attention_backward(const AttentionShape& shape, const AttentionComponent& component,
                              int64_t kv_head, const AttentionInputs<float>& in,
                              const AttentionGradients<float>& grads, float* scratch);
void block_attention_backward(const AttentionShape& shape, const AttentionComponent& component,
                              int64_t kv_head, const AttentionInputs<simd::Bfloat16>& in,
                              const AttentionGradients<simd::Bfloat16>& grads, float* scratch);

}  // namespace espalier::kernels
