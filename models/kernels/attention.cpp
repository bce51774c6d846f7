#include "models/kernels/attention.h"

#include <cmath>

namespace espalier::kernels {
namespace {

using simd::Floats;
using simd::kLanes;

// Rows of a block of queries: with four rows and four vectors, sixteen sums stay in registers.
constexpr int64_t kRows = 4;

// A matrix in scratch whose rows start at multiples of `width` (itself a multiple of 16).
struct Matrix {
  float* data;
  int64_t width;
  ESPALIER_INLINE float* row(int64_t i) const { return data + i * width; }
};

struct Range {
  int64_t begin;
  int64_t end;
};

// C[m..m+4, n..n+16*V] (+)= sum over k of A(m+r, k) * B[k, n..], A(i, k) = a[i*row_step +
// k*k_step].
template <int V, bool kAdd>
ESPALIER_INLINE void tile(const float* a, int64_t row_step, int64_t k_step, Range k, const float* b,
                          int64_t b_width, float* c, int64_t c_width) {
  Floats sums[kRows][V] = {};
  for (int64_t i = k.begin; i < k.end; ++i) {
    Floats from[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) from[v] = simd::load(b + i * b_width + v * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const float factor = a[r * row_step + i * k_step];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] += from[v] * factor;
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      float* to = c + r * c_width + v * kLanes;
      simd::store(to, kAdd ? simd::load(to) + sums[r][v] : sums[r][v]);
    }
  }
}

// Four rows of C, `columns` (a multiple of 16) of them.
template <bool kAdd>
ESPALIER_INLINE void multiply(const float* a, int64_t row_step, int64_t k_step, Range k, Matrix b,
                              float* c, int64_t c_width, int64_t columns) {
  int64_t n = 0;
  for (; n + 4 * kLanes <= columns; n += 4 * kLanes) {
    tile<4, kAdd>(a, row_step, k_step, k, b.data + n, b.width, c + n, c_width);
  }
  if (n + 2 * kLanes <= columns) {
    tile<2, kAdd>(a, row_step, k_step, k, b.data + n, b.width, c + n, c_width);
    n += 2 * kLanes;
  }
  if (n < columns) tile<1, kAdd>(a, row_step, k_step, k, b.data + n, b.width, c + n, c_width);
}

// Scratch of one unit: padded rows are zero, so that padding adds nothing anywhere.
struct Scratch {
  Matrix queries, keys, values, keys_t, values_t;
  Matrix weights, grad_weights;
  Matrix grad_out, grad_queries, grad_keys, grad_values;
};

ESPALIER_INLINE Scratch lay_out(float* memory, int64_t length, int64_t head_dim) {
  const int64_t rows = simd::round_up(length, kRows);
  const int64_t columns = simd::round_up(length, kLanes);
  const auto take = [&](int64_t n, int64_t width) {
    const Matrix m{memory, width};
    memory += n * width;
    return m;
  };
  Scratch s;
  s.queries = take(rows, head_dim);
  s.keys = take(rows, head_dim);
  s.values = take(rows, head_dim);
  s.keys_t = take(head_dim, columns);
  s.values_t = take(head_dim, columns);
  s.weights = take(rows, columns);
  s.grad_weights = take(rows, columns);
  s.grad_out = take(rows, head_dim);
  s.grad_queries = take(rows, head_dim);
  s.grad_keys = take(rows, head_dim);
  s.grad_values = take(rows, head_dim);
  return s;
}

ESPALIER_INLINE void clear(float* p, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) simd::store(p + i, Floats{});
}

// One head of the packed matrix into scratch, as fp32, rotated when `rotate`, times `scale`.
template <class T>
ESPALIER_INLINE void gather(const AttentionShape& shape, const SequenceRows& rows, const T* from,
                            int64_t from_width, Matrix to, bool rotate, float scale) {
  const int64_t half = shape.head_dim / 2;
  for (int64_t t = 0; t < rows.length; ++t) {
    const T* x = from + (rows.first + t * rows.stride) * from_width;
    float* y = to.row(t);
    if (!rotate || shape.cosines == nullptr) {
      for (int64_t i = 0; i < shape.head_dim; i += kLanes) {
        simd::store(y + i, simd::load(x + i) * scale);
      }
      continue;
    }
    const float* c = shape.cosines + (rows.position + t) * half;
    const float* s = shape.sines + (rows.position + t) * half;
    int64_t i = 0;
    for (; i + kLanes <= half; i += kLanes) {
      const Floats a = simd::load(x + i) * scale;
      const Floats b = simd::load(x + half + i) * scale;
      simd::store(y + i, a * simd::load(c + i) - b * simd::load(s + i));
      simd::store(y + half + i, b * simd::load(c + i) + a * simd::load(s + i));
    }
    for (; i < half; ++i) {
      const float a = simd::load_one(x + i) * scale;
      const float b = simd::load_one(x + half + i) * scale;
      y[i] = a * c[i] - b * s[i];
      y[half + i] = b * c[i] + a * s[i];
    }
  }
  const int64_t padded = simd::round_up(rows.length, kRows);
  clear(to.row(rows.length), (padded - rows.length) * shape.head_dim);
}

// The inverse: rotates back where gather() rotated.
template <class T>
ESPALIER_INLINE void scatter(const AttentionShape& shape, const SequenceRows& rows, Matrix from,
                             T* to, int64_t to_width, bool rotate, float scale) {
  const int64_t half = shape.head_dim / 2;
  for (int64_t t = 0; t < rows.length; ++t) {
    const float* x = from.row(t);
    T* y = to + (rows.first + t * rows.stride) * to_width;
    if (!rotate || shape.cosines == nullptr) {
      for (int64_t i = 0; i < shape.head_dim; i += kLanes) {
        simd::store(y + i, simd::load(x + i) * scale);
      }
      continue;
    }
    const float* c = shape.cosines + (rows.position + t) * half;
    const float* s = shape.sines + (rows.position + t) * half;
    int64_t i = 0;
    for (; i + kLanes <= half; i += kLanes) {
      const Floats a = simd::load(x + i) * scale;
      const Floats b = simd::load(x + half + i) * scale;
      simd::store(y + i, a * simd::load(c + i) + b * simd::load(s + i));
      simd::store(y + half + i, b * simd::load(c + i) - a * simd::load(s + i));
    }
    for (; i < half; ++i) {
      const float a = x[i] * scale;
      const float b = x[half + i] * scale;
      simd::store_one(y + i, a * c[i] + b * s[i]);
      simd::store_one(y + half + i, b * c[i] - a * s[i]);
    }
  }
}

ESPALIER_INLINE void transpose(Matrix from, int64_t rows, int64_t columns, Matrix to) {
  for (int64_t j = 0; j < columns; ++j) {
    float* y = to.row(j);
    for (int64_t i = 0; i < rows; ++i) y[i] = from.data[i * from.width + j];
    for (int64_t i = rows; i < to.width; ++i) y[i] = 0;
  }
}

// What the four queries from `first` on see of their sequence: block bounds for products, and the
// exact number of keys for each of them.
struct Visible {
  int64_t columns;   // at least the keys that any of them sees, whole vectors
  int64_t keys;      // the same, whole blocks of rows
  int64_t of_first;  // keys that query `first` sees
  int64_t step;      // and how many more each next one sees
};

ESPALIER_INLINE Visible visible_from(const SequenceRows& rows, int64_t first) {
  if (!rows.is_causal) {
    return {simd::round_up(rows.length, kLanes), simd::round_up(rows.length, kRows), rows.length,
            0};
  }
  const int64_t width = simd::round_up(rows.length, kLanes);
  const int64_t columns = simd::round_up(first + kRows, kLanes);
  return {columns < width ? columns : width, first + kRows, first + 1, 1};
}

// Four rows of scores become weights; columns that a query does not see are zero up to the block's
// width.
ESPALIER_INLINE void softmax_rows(Matrix weights, int64_t first, int64_t length,
                                  const Visible& seen, float* log_sums) {
  const int64_t columns = seen.columns;
  for (int64_t r = 0; r < kRows; ++r) {
    float* w = weights.row(first + r);
    const int64_t visible = seen.of_first + r * seen.step;
    if (first + r >= length) {
      clear(w, columns);
      continue;
    }
    for (int64_t j = visible; j < columns; ++j) w[j] = -1e30f;
    Floats highest = simd::load(w);
    for (int64_t j = kLanes; j < columns; j += kLanes)
      highest = simd::max(highest, simd::load(w + j));
    float top = highest[0];
    for (int lane = 1; lane < kLanes; ++lane) top = highest[lane] > top ? highest[lane] : top;
    Floats sums = {};
    for (int64_t j = 0; j < columns; j += kLanes) {
      const Floats e = simd::exp(simd::load(w + j) - top);
      simd::store(w + j, e);
      sums += e;
    }
    const float total = simd::sum(sums);
    const float inverse = 1.0f / total;
    for (int64_t j = 0; j < columns; j += kLanes) simd::store(w + j, simd::load(w + j) * inverse);
    for (int64_t j = visible; j < columns; ++j) w[j] = 0;
    log_sums[r] = top + std::log(total);
  }
}

template <class T>
ESPALIER_INLINE void forward(const AttentionShape& shape, const SequenceRows& rows, int64_t kv_head,
                             const T* qkv, T* out, float* log_sum, float* memory) {
  const int64_t d = shape.head_dim;
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t width = shape.row_width();
  const Scratch s = lay_out(memory, rows.length, d);
  gather(shape, rows, qkv + (shape.heads + kv_head) * d, width, s.keys, true, 1.0f);
  transpose(s.keys, rows.length, d, s.keys_t);
  gather(shape, rows, qkv + (shape.heads + shape.kv_heads + kv_head) * d, width, s.values, false,
         1.0f);
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    gather(shape, rows, qkv + head * d, width, s.queries, true, scale);
    for (int64_t m = 0; m < rows.length; m += kRows) {
      const Visible seen = visible_from(rows, m);
      multiply<false>(s.queries.row(m), d, 1, {0, d}, s.keys_t, s.weights.row(m), s.weights.width,
                      seen.columns);
      float log_sums[kRows] = {};
      softmax_rows(s.weights, m, rows.length, seen, log_sums);
      multiply<false>(s.weights.row(m), s.weights.width, 1, {0, seen.keys}, s.values,
                      s.grad_out.row(m), d, d);
      for (int64_t r = 0; r < kRows && m + r < rows.length; ++r) {
        log_sum[(rows.first + (m + r) * rows.stride) * shape.heads + head] = log_sums[r];
      }
    }
    scatter(shape, rows, s.grad_out, out + head * d, shape.heads * d, false, 1.0f);
  }
}

// Weights from scores and the saved logsumexp; then dS = P * (dP - rowsum(P * dP)).
ESPALIER_INLINE void softmax_rows_backward(const Scratch& s, int64_t first, int64_t length,
                                           const Visible& seen, const float* log_sums) {
  const int64_t columns = seen.columns;
  for (int64_t r = 0; r < kRows; ++r) {
    float* w = s.weights.row(first + r);
    float* g = s.grad_weights.row(first + r);
    if (first + r >= length) {
      clear(w, columns);
      clear(g, columns);
      continue;
    }
    for (int64_t j = 0; j < columns; j += kLanes) {
      simd::store(w + j, simd::exp(simd::load(w + j) - log_sums[r]));
    }
    for (int64_t j = seen.of_first + r * seen.step; j < columns; ++j) w[j] = 0;
    Floats products = {};
    for (int64_t j = 0; j < columns; j += kLanes) products += simd::load(w + j) * simd::load(g + j);
    const float mean = simd::sum(products);
    for (int64_t j = 0; j < columns; j += kLanes) {
      simd::store(g + j, simd::load(w + j) * (simd::load(g + j) - mean));
    }
  }
}

template <class T>
ESPALIER_INLINE void backward(const AttentionShape& shape, const SequenceRows& rows,
                              int64_t kv_head, const T* qkv, const float* log_sum,
                              const T* grad_out, T* grad_qkv, float* memory) {
  const int64_t d = shape.head_dim;
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t width = shape.row_width();
  const int64_t padded = simd::round_up(rows.length, kRows);
  const Scratch s = lay_out(memory, rows.length, d);
  const int64_t key_at = (shape.heads + kv_head) * d;
  const int64_t value_at = (shape.heads + shape.kv_heads + kv_head) * d;
  gather(shape, rows, qkv + key_at, width, s.keys, true, 1.0f);
  transpose(s.keys, rows.length, d, s.keys_t);
  gather(shape, rows, qkv + value_at, width, s.values, false, 1.0f);
  transpose(s.values, rows.length, d, s.values_t);
  clear(s.grad_keys.data, padded * d);
  clear(s.grad_values.data, padded * d);
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    gather(shape, rows, qkv + head * d, width, s.queries, true, scale);
    gather(shape, rows, grad_out + head * d, shape.heads * d, s.grad_out, false, 1.0f);
    for (int64_t m = 0; m < rows.length; m += kRows) {
      const Visible seen = visible_from(rows, m);
      multiply<false>(s.queries.row(m), d, 1, {0, d}, s.keys_t, s.weights.row(m), s.weights.width,
                      seen.columns);
      multiply<false>(s.grad_out.row(m), d, 1, {0, d}, s.values_t, s.grad_weights.row(m),
                      s.weights.width, seen.columns);
      float log_sums[kRows] = {};
      for (int64_t r = 0; r < kRows && m + r < rows.length; ++r) {
        log_sums[r] = log_sum[(rows.first + (m + r) * rows.stride) * shape.heads + head];
      }
      softmax_rows_backward(s, m, rows.length, seen, log_sums);
      multiply<false>(s.grad_weights.row(m), s.weights.width, 1, {0, seen.keys}, s.keys,
                      s.grad_queries.row(m), d, d);
    }
    for (int64_t m = 0; m < rows.length; m += kRows) {
      const Range seeing{rows.is_causal ? m : 0, padded};  // queries that see these keys
      multiply<true>(s.weights.data + m, 1, s.weights.width, seeing, s.grad_out,
                     s.grad_values.row(m), d, d);
      multiply<true>(s.grad_weights.data + m, 1, s.weights.width, seeing, s.queries,
                     s.grad_keys.row(m), d, d);
    }
    scatter(shape, rows, s.grad_queries, grad_qkv + head * d, width, true, scale);
  }
  scatter(shape, rows, s.grad_keys, grad_qkv + key_at, width, true, 1.0f);
  scatter(shape, rows, s.grad_values, grad_qkv + value_at, width, false, 1.0f);
}

}  // namespace

int64_t attention_scratch_floats(const AttentionShape& shape, int64_t length) {
  const int64_t rows = simd::round_up(length, kRows);
  const int64_t columns = simd::round_up(length, kLanes);
  return 7 * rows * shape.head_dim + 2 * columns * shape.head_dim + 2 * rows * columns;
}

ESPALIER_CLONES void attention(const AttentionShape& shape, const SequenceRows& rows,
                               int64_t kv_head, const float* qkv, float* out, float* log_sum,
                               float* scratch) {
  forward(shape, rows, kv_head, qkv, out, log_sum, scratch);
}
ESPALIER_CLONES void attention(const AttentionShape& shape, const SequenceRows& rows,
                               int64_t kv_head, const simd::Bfloat16* qkv, simd::Bfloat16* out,
                               float* log_sum, float* scratch) {
  forward(shape, rows, kv_head, qkv, out, log_sum, scratch);
}
ESPALIER_CLONES void attention_backward(const AttentionShape& shape, const SequenceRows& rows,
                                        int64_t kv_head, const float* qkv, const float* log_sum,
                                        const float* grad_out, float* grad_qkv, float* scratch) {
  backward(shape, rows, kv_head, qkv, log_sum, grad_out, grad_qkv, scratch);
}
ESPALIER_CLONES void attention_backward(const AttentionShape& shape, const SequenceRows& rows,
                                        int64_t kv_head, const simd::Bfloat16* qkv,
                                        const float* log_sum, const simd::Bfloat16* grad_out,
                                        simd::Bfloat16* grad_qkv, float* scratch) {
  backward(shape, rows, kv_head, qkv, log_sum, grad_out, grad_qkv, scratch);
}

}  // namespace espalier::kernels
