#pragma once

#include <cstdint>

#include "models/kernels/simd.h"

// Row kernels of the transformer on CPU. Each reads its inputs once and writes its outputs once;
// arithmetic is in fp32 whatever the storage. Plain pointers, no torch: rows are contiguous, `n`
// rows of `width`. Callers split rows over threads.
namespace espalier::kernels {

using simd::Bfloat16;

// sum = x + delta (delta may be null), out = sum / rms(sum) * weight, inverse_rms per row.
// `sum` may be null when delta is: then nothing is written there.
template <class T>
struct AddRmsNorm {
  const float* x;
  const T* delta;
  const float* weight;
  float* sum;
  T* out;
  float* inverse_rms;
  float epsilon;
};

// grad_x = grad_sum (may be null) + the norm's gradient; grad_delta (may be null) is grad_x in T;
// grad_weight is added to, so every thread passes its own.
template <class T>
struct AddRmsNormBackward {
  const float* sum;
  const float* inverse_rms;
  const float* weight;
  const float* grad_sum;
  const T* grad_out;
  float* grad_x;
  T* grad_delta;
  float* grad_weight;
};

void add_rms_norm(const AddRmsNorm<float>& a, int64_t begin, int64_t end, int64_t width);
void add_rms_norm(const AddRmsNorm<Bfloat16>& a, int64_t begin, int64_t end, int64_t width);
void add_rms_norm_backward(const AddRmsNormBackward<float>& a, int64_t begin, int64_t end,
                           int64_t width);
void add_rms_norm_backward(const AddRmsNormBackward<Bfloat16>& a, int64_t begin, int64_t end,
                           int64_t width);

// Rows of [gate | up], 2 * width wide: out = silu(gate) * up.
void swiglu(const float* gate_up, float* out, int64_t begin, int64_t end, int64_t width);
void swiglu(const Bfloat16* gate_up, Bfloat16* out, int64_t begin, int64_t end, int64_t width);
void swiglu_backward(const float* gate_up, const float* grad_out, float* grad_gate_up,
                     int64_t begin, int64_t end, int64_t width);
void swiglu_backward(const Bfloat16* gate_up, const Bfloat16* grad_out, Bfloat16* grad_gate_up,
                     int64_t begin, int64_t end, int64_t width);

// loss[row] = logsumexp(logits[row]) - logits[row][target]; grad = softmax - one_hot(target),
// unless null.
void cross_entropy(const float* logits, const int64_t* targets, float* loss, float* grad,
                   int64_t begin, int64_t end, int64_t width);
void cross_entropy(const Bfloat16* logits, const int64_t* targets, float* loss, Bfloat16* grad,
                   int64_t begin, int64_t end, int64_t width);

// Of elements, in place: gradient where `output`, which relu gave, is positive, else 0; plus
// `addend`, unless null.
void relu_backward(float* gradient, const float* output, const float* addend, int64_t begin,
                   int64_t end);
void relu_backward(Bfloat16* gradient, const Bfloat16* output, const Bfloat16* addend,
                   int64_t begin, int64_t end);

}  // namespace espalier::kernels
