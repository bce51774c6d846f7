#pragma once

#include <cstdint>

#include "models/kernels/block_attention.h"
#include "models/kernels/tiles.h"

// Rows of heads between tensors and the scratch of block attention, where all is fp32.
namespace espalier::kernels {

using simd::Floats;
using simd::kLanes;

ESPALIER_INLINE void clear(float* p, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) simd::store(p + i, Floats{});
}

// Copies a head between storage and fp32, times scale, rotated by its position where `position` is
// not negative: turn 1 as a query or key is, -1 back again, as its gradient is.
template <class From, class To>
ESPALIER_INLINE void copy_head(const AttentionShape& shape, const From* x, int64_t position,
                               float turn, float scale, To* y) {
  const int64_t half = shape.head_dim / 2;
  if (shape.cosines == nullptr || position < 0) {
    for (int64_t i = 0; i < shape.head_dim; i += kLanes) {
      simd::store(y + i, simd::load(x + i) * scale);
    }
    return;
  }
  const float* c = shape.cosines + position * half;
  const float* s = shape.sines + position * half;
  int64_t i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    const Floats a = simd::load(x + i) * scale;
    const Floats b = simd::load(x + half + i) * scale;
    const Floats sines = simd::load(s + i) * turn;
    simd::store(y + i, a * simd::load(c + i) - b * sines);
    simd::store(y + half + i, b * simd::load(c + i) + a * sines);
  }
  for (; i < half; ++i) {
    const float a = simd::load_one(x + i) * scale;
    const float b = simd::load_one(x + half + i) * scale;
    simd::store_one(y + i, a * c[i] - b * (turn * s[i]));
    simd::store_one(y + half + i, b * c[i] + a * (turn * s[i]));
  }
}

template <class T>
ESPALIER_INLINE void load_head(const AttentionShape& shape, const T* x, int64_t position,
                               float scale, float* y) {
  copy_head(shape, x, position, 1.0f, scale, y);
}

template <class T>
ESPALIER_INLINE void store_head(const AttentionShape& shape, const float* x, int64_t position,
                                float scale, T* y) {
  copy_head(shape, x, position, -1.0f, scale, y);
}

// Keys or values of a head, as they lie in the component; zero where a place only aligns.
template <class T>
ESPALIER_INLINE void gather(const AttentionShape& shape, const AttentionComponent& component,
                            RowsOf<const T> from, int64_t head, bool rotate, float* rows) {
  const int64_t d = shape.head_dim;
  const auto places = static_cast<int64_t>(component.key_rows.size());
  for (int64_t place = 0; place < places; ++place) {
    const int64_t row = component.key_rows[static_cast<size_t>(place)];
    float* to = rows + place * d;
    if (row < 0) {
      clear(to, d);
    } else {
      load_head(shape, from.row(row) + head * d, rotate ? shape.positions[row] : -1, 1.0f, to);
    }
  }
}

// Rows of `places` (16 n) keys as panels: 16 columns wide, channel after channel, so that a product
// with queries reads them in one stream.
ESPALIER_INLINE void to_panels(const float* rows, int64_t places, int64_t d, float* panels) {
  for (int64_t place = 0; place < places; place += kLanes) {
    for (int64_t i = 0; i < d; i += kLanes) {
      Floats square[kLanes];
#pragma GCC unroll 16
      for (int j = 0; j < kLanes; ++j) square[j] = simd::load(rows + (place + j) * d + i);
      simd::transpose_16x16(square);
#pragma GCC unroll 16
      for (int j = 0; j < kLanes; ++j)
        simd::store(panels + place * d + (i + j) * kLanes, square[j]);
    }
  }
}

// Queries of a block, or their gradients, padded with zero rows to whole groups of rows.
template <class T>
ESPALIER_INLINE void gather_block(const AttentionShape& shape, const AttentionComponent& component,
                                  const QueryBlock& block, RowsOf<const T> from, int64_t head,
                                  bool rotate, float scale, float* to) {
  const int64_t d = shape.head_dim;
  for (int64_t r = 0; r < block.count; ++r) {
    const auto q = static_cast<size_t>(block.first + r);
    load_head(shape, from.row(component.queries[q]) + head * d,
              rotate ? shape.positions[component.query_rows[q]] : -1, scale, to + r * d);
  }
  const int64_t padded = simd::round_up(block.count, kRows);
  clear(to + block.count * d, (padded - block.count) * d);
}

}  // namespace espalier::kernels
