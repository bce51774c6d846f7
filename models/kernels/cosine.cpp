#include "models/kernels/cosine.h"

#include <cmath>
#include <vector>

namespace espalier::kernels {
namespace {

using simd::Floats;
using simd::kLanes;

struct Products {
  float dot = 0, features = 0, teacher = 0;
};

template <class F, class T>
ESPALIER_INLINE Products products_of(const F* f, const T* t, int64_t width) {
  Floats dot = {}, ff = {}, tt = {};
  Products tail;
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    const Floats x = simd::load(f + i), y = simd::load(t + i);
    dot += x * y;
    ff += x * x;
    tt += y * y;
  }
  for (; i < width; ++i) {
    const float x = simd::load_one(f + i), y = simd::load_one(t + i);
    tail.dot += x * y;
    tail.features += x * x;
    tail.teacher += y * y;
  }
  return {simd::sum(dot) + tail.dot, simd::sum(ff) + tail.features, simd::sum(tt) + tail.teacher};
}

// cos = dot * scale, scale = (ff tt + e)^-1/2; d cos / d f = scale t - dot scale^3 tt f.
struct Slope {
  float cosine, of_teacher, of_features;
};
ESPALIER_INLINE Slope slope_of(const Products& p, float epsilon) {
  const float scale = 1.0f / std::sqrt(p.features * p.teacher + epsilon);
  return {p.dot * scale, scale, p.dot * scale * scale * scale * p.teacher};
}

template <class F, class T>
ESPALIER_INLINE double rows_of(const CosineFold<F, T>& a, int64_t begin, int64_t end) {
  const int64_t width = a.folds * a.fold_width;
  const float share = 1.0f / static_cast<float>(a.folds);
  std::vector<Products> pieces(static_cast<size_t>(a.folds));
  double loss = 0;
  for (int64_t row = begin; row < end; ++row) {
    const F* f = a.features + row * width;
    const T* t = a.teacher + row * width;
    F* gradient = a.gradient + row * width;
    Products whole;
    for (int64_t k = 0; k < a.folds; ++k) {
      Products& piece = pieces[static_cast<size_t>(k)];
      piece = products_of(f + k * a.fold_width, t + k * a.fold_width, a.fold_width);
      whole.dot += piece.dot;
      whole.features += piece.features;
      whole.teacher += piece.teacher;
    }
    const Slope of_whole = slope_of(whole, a.epsilon);
    float cosines = of_whole.cosine;
    for (int64_t k = 0; k < a.folds; ++k) {
      const Slope slope = slope_of(pieces[static_cast<size_t>(k)], a.epsilon);
      cosines += share * slope.cosine;
      const float of_t = of_whole.of_teacher + share * slope.of_teacher;
      const float of_f = of_whole.of_features + share * slope.of_features;
      int64_t i = k * a.fold_width;
      const int64_t stop = i + a.fold_width;
      for (; i + kLanes <= stop; i += kLanes) {
        simd::store(gradient + i, simd::load(f + i) * of_f - simd::load(t + i) * of_t);
      }
      for (; i < stop; ++i) {
        simd::store_one(gradient + i, simd::load_one(f + i) * of_f - simd::load_one(t + i) * of_t);
      }
    }
    loss += 2.0 - static_cast<double>(cosines);
  }
  return loss;
}

}  // namespace

ESPALIER_CLONES
double cosine_fold(const CosineFold<float, float>& a, int64_t begin, int64_t end) {
  return rows_of(a, begin, end);
}
ESPALIER_CLONES
double cosine_fold(const CosineFold<float, Bfloat16>& a, int64_t begin, int64_t end) {
  return rows_of(a, begin, end);
}
ESPALIER_CLONES
double cosine_fold(const CosineFold<Bfloat16, float>& a, int64_t begin, int64_t end) {
  return rows_of(a, begin, end);
}
ESPALIER_CLONES
double cosine_fold(const CosineFold<Bfloat16, Bfloat16>& a, int64_t begin, int64_t end) {
  return rows_of(a, begin, end);
}

}  // namespace espalier::kernels
