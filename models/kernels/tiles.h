#pragma once

#include <cstdint>

#include "models/kernels/simd.h"

// Products of small matrices whose sums stay in registers: four rows and four vectors make sixteen.
namespace espalier::kernels {

constexpr int64_t kRows = 4;

// C[0..4, 0..16 V] += sum over k of A(r, k) * B[k, .], A(r, k) = a[r * row_step + k * k_step].
template <int V>
ESPALIER_INLINE void add_tile(const float* a, int64_t row_step, int64_t k_step, int64_t count,
                              const float* b, int64_t b_width, float* c, int64_t c_width) {
  using simd::Floats;
  using simd::kLanes;
  Floats sums[kRows][V];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sums[r][v] = simd::load(c + r * c_width + v * kLanes);
  }
  for (int64_t k = 0; k < count; ++k) {
    Floats from[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) from[v] = simd::load(b + k * b_width + v * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const float factor = a[r * row_step + k * k_step];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] += from[v] * factor;
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) simd::store(c + r * c_width + v * kLanes, sums[r][v]);
  }
}

// Four rows of C, `columns` (a multiple of 16) of them.
ESPALIER_INLINE void add_product(const float* a, int64_t row_step, int64_t k_step, int64_t count,
                                 const float* b, int64_t b_width, float* c, int64_t c_width,
                                 int64_t columns) {
  using simd::kLanes;
  int64_t n = 0;
  for (; n + 4 * kLanes <= columns; n += 4 * kLanes) {
    add_tile<4>(a, row_step, k_step, count, b + n, b_width, c + n, c_width);
  }
  if (n + 2 * kLanes <= columns) {
    add_tile<2>(a, row_step, k_step, count, b + n, b_width, c + n, c_width);
    n += 2 * kLanes;
  }
  if (n < columns) add_tile<1>(a, row_step, k_step, count, b + n, b_width, c + n, c_width);
}

// The same with B in panels of 16 columns, each `count` rows, one after another; C is overwritten.
template <int V>
ESPALIER_INLINE void panel_tile(const float* a, int64_t count, const float* b, float* c,
                                int64_t c_width) {
  using simd::Floats;
  using simd::kLanes;
  Floats sums[kRows][V] = {};
  for (int64_t k = 0; k < count; ++k) {
    Floats from[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) from[v] = simd::load(b + (v * count + k) * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const float factor = a[r * count + k];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] += from[v] * factor;
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) simd::store(c + r * c_width + v * kLanes, sums[r][v]);
  }
}

// Four rows of `columns` (16, 32, 48 or 64): A (4 x count, dense) times up to four panels.
ESPALIER_INLINE void panel_product(const float* a, int64_t count, const float* b, int64_t columns,
                                   float* c, int64_t c_width) {
  switch (columns / simd::kLanes) {
    case 4:
      return panel_tile<4>(a, count, b, c, c_width);
    case 3:
      return panel_tile<3>(a, count, b, c, c_width);
    case 2:
      return panel_tile<2>(a, count, b, c, c_width);
    default:
      return panel_tile<1>(a, count, b, c, c_width);
  }
}

}  // namespace espalier::kernels
