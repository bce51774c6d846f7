#include "models/kernels/block_attention.h"

#include <cmath>

#include "models/kernels/attention_rows.h"
#include "models/kernels/tiles.h"

namespace espalier::kernels {
namespace {

using simd::Floats;
using simd::kLanes;

constexpr int64_t kColumns = 64;  // keys of a tile: four vectors

// Below any score. Its exponential is not quite zero, so weights of what is hidden are set to zero:
// for the sake of exactness, and because products with denormal numbers take a hundred times
// longer.
constexpr float kHidden = -1e30f;

ESPALIER_INLINE int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }

// Keys of a range that row r of the block sees.
ESPALIER_INLINE int64_t visible_keys(const QueryBlock& block, const KeyRange& range, bool is_last,
                                     int64_t r) {
  if (block.causal_offset < 0 || !is_last) return range.count;
  return minimum(range.count, block.causal_offset + r + 1);
}

// Scores of four rows at a time against the keys from `place` on, up to four panels.
ESPALIER_INLINE void score_tile(const float* queries, int64_t rows, int64_t d, const float* panels,
                                int64_t place, int64_t columns, float* scores, int64_t width) {
  const float* b = panels + place * d;
  for (int64_t m = 0; m < rows; m += kRows) {
    panel_product(queries + m * d, d, b, columns, scores + m * width, width);
  }
}

ESPALIER_INLINE float softmax_row(float* w, int64_t columns) {
  Floats highest = simd::load(w);
  for (int64_t j = kLanes; j < columns; j += kLanes) {
    highest = simd::max(highest, simd::load(w + j));
  }
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
  return top + std::log(total);
}

// Scores of a block against all it sees, range after range, what a row does not see hidden.
ESPALIER_INLINE int64_t score_block(const AttentionComponent& component, const QueryBlock& block,
                                    int64_t d, const float* queries, const float* panels,
                                    float* scores, int64_t width) {
  const int64_t rows = simd::round_up(block.count, kRows);
  int64_t column = 0;
  for (int64_t i = 0; i < block.ranges; ++i) {
    const KeyRange& range = component.ranges[static_cast<size_t>(block.first_range + i)];
    const int64_t columns = simd::round_up(range.count, kLanes);
    for (int64_t c = 0; c < columns; c += kColumns) {
      score_tile(queries, rows, d, panels, range.first + c, minimum(kColumns, columns - c),
                 scores + column + c, width);
    }
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t seen = visible_keys(block, range, i + 1 == block.ranges, r);
      for (int64_t j = seen; j < columns; ++j) scores[r * width + column + j] = kHidden;
    }
    column += columns;
  }
  return column;
}

// Of a row's weights, those of keys in the last range that it does not see.
ESPALIER_INLINE void hide_future(const AttentionComponent& component, const QueryBlock& block,
                                 int64_t columns, int64_t r, float* weights) {
  if (block.causal_offset < 0) return;
  const KeyRange& range =
      component.ranges[static_cast<size_t>(block.first_range + block.ranges - 1)];
  const int64_t first = columns - simd::round_up(range.count, kLanes);
  for (int64_t j = first + visible_keys(block, range, true, r); j < columns; ++j) weights[j] = 0;
}

// Weights times values, a tile of keys at a time so that it is read from the nearest cache.
ESPALIER_INLINE void weigh_block(const AttentionComponent& component, const QueryBlock& block,
                                 int64_t d, const float* weights, int64_t width,
                                 const float* values, float* out) {
  const int64_t rows = simd::round_up(block.count, kRows);
  clear(out, rows * d);
  int64_t column = 0;
  for (int64_t i = 0; i < block.ranges; ++i) {
    const KeyRange& range = component.ranges[static_cast<size_t>(block.first_range + i)];
    for (int64_t k = 0; k < range.count; k += kColumns) {
      const int64_t keys = minimum(kColumns, range.count - k);
      for (int64_t m = 0; m < rows; m += kRows) {
        add_product(weights + m * width + column + k, width, 1, keys,
                    values + (range.first + k) * d, d, out + m * d, d, d);
      }
    }
    column += simd::round_up(range.count, kLanes);
  }
}

template <class T>
ESPALIER_INLINE void forward(const AttentionShape& shape, const AttentionComponent& component,
                             int64_t kv_head, const AttentionInputs<T>& in,
                             const AttentionOutputs<T>& out, float* memory) {
  const int64_t d = shape.head_dim;
  const int64_t group = shape.heads / shape.kv_heads;
  const auto places = static_cast<int64_t>(component.key_rows.size());
  float* panels = memory;
  float* values = panels + places * d;
  float* queries = values + places * d;
  float* result = queries + kQueryBlock * d;
  float* scores = result + kQueryBlock * d;
  gather(shape, component, in.k, kv_head, true, values);
  to_panels(values, places, d, panels);
  gather(shape, component, in.v, kv_head, false, values);
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (const QueryBlock& block : component.blocks) {
      gather_block(shape, component, block, in.q, head, true, scale, queries);
      const int64_t columns =
          score_block(component, block, d, queries, panels, scores, component.widest);
      for (int64_t r = 0; r < block.count; ++r) {
        const auto q = static_cast<size_t>(block.first + r);
        out.log_sum.row(component.queries[q])[head] =
            softmax_row(scores + r * component.widest, columns);
        hide_future(component, block, columns, r, scores + r * component.widest);
      }
      weigh_block(component, block, d, scores, component.widest, values, result);
      for (int64_t r = 0; r < block.count; ++r) {
        const auto q = static_cast<size_t>(block.first + r);
        store_head(shape, result + r * d, -1, 1.0f, out.out.row(component.queries[q]) + head * d);
      }
    }
  }
}

// Where backward keeps what it works on.
struct Backward {
  float *key_panels, *value_panels, *keys;   // places x d
  float *grad_keys, *grad_values;            // places x d
  float *queries, *grad_out, *grad_queries;  // kQueryBlock x d
  float *weights, *grad_scores;              // kQueryBlock x kColumns
  float log_sum[kQueryBlock], mean[kQueryBlock];
};

ESPALIER_INLINE Backward lay_out(float* memory, int64_t places, int64_t d) {
  const auto take = [&](int64_t n) {
    float* const part = memory;
    memory += n;
    return part;
  };
  Backward s;
  s.key_panels = take(places * d);
  s.value_panels = take(places * d);
  s.keys = take(places * d);
  s.grad_keys = take(places * d);
  s.grad_values = take(places * d);
  s.queries = take(kQueryBlock * d);
  s.grad_out = take(kQueryBlock * d);
  s.grad_queries = take(kQueryBlock * d);
  s.weights = take(kQueryBlock * kColumns);
  s.grad_scores = take(kQueryBlock * kColumns);
  return s;
}

// Weights from scores and logsumexp, and dS = P * (dP - mean), mean = sum of out * grad_out.
ESPALIER_INLINE void backward_row(float* w, float* g, int64_t columns, int64_t seen, float log_sum,
                                  float mean) {
  for (int64_t j = 0; j < columns; j += kLanes) {
    const Floats p = simd::exp(simd::load(w + j) - log_sum);
    simd::store(w + j, p);
    simd::store(g + j, p * (simd::load(g + j) - mean));
  }
  for (int64_t j = seen < 0 ? 0 : seen; j < columns; ++j) w[j] = g[j] = 0;
}

// A block against one tile of keys: all that flows back through it.
ESPALIER_INLINE void backward_tile(const Backward& s, const QueryBlock& block,
                                   const KeyRange& range, bool is_last, int64_t c, int64_t d) {
  const int64_t rows = simd::round_up(block.count, kRows);
  const int64_t keys = minimum(kColumns, range.count - c);
  const int64_t columns = simd::round_up(keys, kLanes);
  const int64_t place = range.first + c;
  score_tile(s.queries, rows, d, s.key_panels, place, columns, s.weights, kColumns);
  score_tile(s.grad_out, rows, d, s.value_panels, place, columns, s.grad_scores, kColumns);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t seen = r < block.count ? visible_keys(block, range, is_last, r) - c : 0;
    backward_row(s.weights + r * kColumns, s.grad_scores + r * kColumns, columns, seen,
                 s.log_sum[r], s.mean[r]);
  }
  for (int64_t m = 0; m < rows; m += kRows) {
    add_product(s.grad_scores + m * kColumns, kColumns, 1, keys, s.keys + place * d, d,
                s.grad_queries + m * d, d, d);
  }
  // Places behind the last key of the range get products with weights of zero.
  for (int64_t j = 0; j < keys; j += kRows) {
    add_product(s.weights + j, 1, kColumns, rows, s.grad_out, d, s.grad_values + (place + j) * d, d,
                d);
    add_product(s.grad_scores + j, 1, kColumns, rows, s.queries, d, s.grad_keys + (place + j) * d,
                d, d);
  }
}

template <class T>
ESPALIER_INLINE void start_block(const AttentionShape& shape, const AttentionComponent& component,
                                 const QueryBlock& block, int64_t head,
                                 const AttentionInputs<T>& in, const AttentionGradients<T>& grads,
                                 float scale, Backward& s) {
  const int64_t d = shape.head_dim;
  gather_block(shape, component, block, in.q, head, true, scale, s.queries);
  gather_block(shape, component, block, grads.out, head, false, 1.0f, s.grad_queries);
  gather_block(shape, component, block, grads.grad_out, head, false, 1.0f, s.grad_out);
  for (int64_t r = 0; r < simd::round_up(block.count, kRows); ++r) {
    Floats products = {};
    for (int64_t i = 0; i < d; i += kLanes) {
      products += simd::load(s.grad_queries + r * d + i) * simd::load(s.grad_out + r * d + i);
    }
    s.mean[r] = simd::sum(products);
    s.log_sum[r] = 0;
    if (r >= block.count) continue;
    const auto q = static_cast<size_t>(block.first + r);
    s.log_sum[r] = grads.log_sum.row(component.queries[q])[head];
  }
  clear(s.grad_queries, simd::round_up(block.count, kRows) * d);
}

template <class T>
ESPALIER_INLINE void backward(const AttentionShape& shape, const AttentionComponent& component,
                              int64_t kv_head, const AttentionInputs<T>& in,
                              const AttentionGradients<T>& grads, float* memory) {
  const int64_t d = shape.head_dim;
  const int64_t group = shape.heads / shape.kv_heads;
  const auto places = static_cast<int64_t>(component.key_rows.size());
  Backward s = lay_out(memory, places, d);
  gather(shape, component, in.v, kv_head, false, s.keys);
  to_panels(s.keys, places, d, s.value_panels);
  gather(shape, component, in.k, kv_head, true, s.keys);
  to_panels(s.keys, places, d, s.key_panels);
  clear(s.grad_keys, places * d);
  clear(s.grad_values, places * d);
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (const QueryBlock& block : component.blocks) {
      start_block(shape, component, block, head, in, grads, scale, s);
      for (int64_t i = 0; i < block.ranges; ++i) {
        const KeyRange& range = component.ranges[static_cast<size_t>(block.first_range + i)];
        for (int64_t c = 0; c < range.count; c += kColumns) {
          backward_tile(s, block, range, i + 1 == block.ranges, c, d);
        }
      }
      for (int64_t r = 0; r < block.count; ++r) {
        const auto q = static_cast<size_t>(block.first + r);
        store_head(shape, s.grad_queries + r * d, shape.positions[component.query_rows[q]], scale,
                   grads.q.row(component.queries[q]) + head * d);
      }
    }
  }
  for (int64_t place = 0; place < places; ++place) {
    const int64_t row = component.key_rows[static_cast<size_t>(place)];
    if (row < 0) continue;
    store_head(shape, s.grad_keys + place * d, shape.positions[row], 1.0f,
               grads.k.row(row) + kv_head * d);
    store_head(shape, s.grad_values + place * d, -1, 1.0f, grads.v.row(row) + kv_head * d);
  }
}

}  // namespace

int64_t forward_scratch_floats(const AttentionShape& shape, const AttentionComponent& component) {
  const auto places = static_cast<int64_t>(component.key_rows.size());
  return 2 * (places + kQueryBlock) * shape.head_dim + kQueryBlock * component.widest;
}

int64_t backward_scratch_floats(const AttentionShape& shape, const AttentionComponent& component) {
  const auto places = static_cast<int64_t>(component.key_rows.size());
  return (5 * places + 3 * kQueryBlock) * shape.head_dim + 2 * kQueryBlock * kColumns;
}

ESPALIER_CLONES void block_attention(const AttentionShape& shape,
                                     const AttentionComponent& component, int64_t kv_head,
                                     const AttentionInputs<float>& in,
                                     const AttentionOutputs<float>& out, float* scratch) {
  forward(shape, component, kv_head, in, out, scratch);
}
ESPALIER_CLONES void block_attention(const AttentionShape& shape,
                                     const AttentionComponent& component, int64_t kv_head,
                                     const AttentionInputs<simd::Bfloat16>& in,
                                     const AttentionOutputs<simd::Bfloat16>& out, float* scratch) {
  forward(shape, component, kv_head, in, out, scratch);
}
ESPALIER_CLONES void block_attention_backward(const AttentionShape& shape,
                                              const AttentionComponent& component, int64_t kv_head,
                                              const AttentionInputs<float>& in,
                                              const AttentionGradients<float>& grads,
                                              float* scratch) {
  backward(shape, component, kv_head, in, grads, scratch);
}
ESPALIER_CLONES void block_attention_backward(const AttentionShape& shape,
                                              const AttentionComponent& component, int64_t kv_head,
                                              const AttentionInputs<simd::Bfloat16>& in,
                                              const AttentionGradients<simd::Bfloat16>& grads,
                                              float* scratch) {
  backward(shape, component, kv_head, in, grads, scratch);
}

}  // namespace espalier::kernels
