#pragma once

#include <cstdint>

#include "models/kernels/simd.h"

namespace espalier::kernels {

using simd::Bfloat16;

// Rows of features and of a teacher, `folds` * `fold_width` wide.
template <class F, class T>
struct CosineFold {
  const F* features;
  const T* teacher;
  F* gradient;  // of the loss below, to the features
  int64_t folds, fold_width;
  float epsilon;
};

// Sum over rows [begin, end) of (1 - cos) + mean over folds of (1 - cos of the fold); cos is
// dot / sqrt(|f|^2 |t|^2 + epsilon). The gradient is written in the same sweep, while the row is in
// cache.
double cosine_fold(const CosineFold<float, float>& a, int64_t begin, int64_t end);
double cosine_fold(const CosineFold<float, Bfloat16>& a, int64_t begin, int64_t end);
double cosine_fold(const CosineFold<Bfloat16, float>& a, int64_t begin, int64_t end);
double cosine_fold(const CosineFold<Bfloat16, Bfloat16>& a, int64_t begin, int64_t end);

}  // namespace espalier::kernels
