#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace espalier {

// Which rows of a packed matrix form which sequence. Sequences of any length lie in one matrix
// without padding, so every row operation and matrix product works on real tokens only.
class SequenceLayout {
 public:
  // Sequence after sequence.
  static SequenceLayout from_lengths(const std::vector<int64_t>& lengths);
  // `count` sequences of `length`; token t of sequence s is row t * count + s. The rows of one
  // token position are contiguous, which suits heads that differ by position.
  static SequenceLayout position_major(int64_t count, int64_t length);

  const at::Tensor& spans() const { return spans_; }
  int64_t sequences() const { return spans_.size(0); }
  int64_t rows() const { return rows_; }
  int64_t longest() const { return longest_; }

 private:
  at::Tensor spans_;  // (sequences, 3) int64 on CPU: first row, stride, length
  int64_t rows_ = 0;
  int64_t longest_ = 0;
};

struct AttentionHeads {
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads; each serves heads / kv_heads query heads
  int64_t head_dim = 0;

  int64_t row_width() const { return (heads + 2 * kv_heads) * head_dim; }
};

// Cosines and sines of rotary position embedding, (length, head_dim / 2) each, fp32. Undefined
// tensors: positions are not rotated.
struct RotaryTable {
  at::Tensor cosines;
  at::Tensor sines;
};
RotaryTable make_rotary_table(int64_t length, int64_t head_dim, double base);

// x (..., T, head_dim), rotated as tokens first .. first+T-1: the first half of a head turns
// against the second.
at::Tensor rotate(const at::Tensor& x, const RotaryTable& table, int64_t first);

// Causal attention inside each sequence. qkv rows are [query heads | key heads | value heads].
// Returns rows of heads * head_dim. CPU in fp32 and bf16 runs one kernel; anything else goes
// through scaled_dot_product_attention on padded sequences (the composed form).
at::Tensor packed_attention(const at::Tensor& qkv, const SequenceLayout& layout,
                            const AttentionHeads& heads, const RotaryTable& table);
at::Tensor composed_packed_attention(const at::Tensor& qkv, const SequenceLayout& layout,
                                     const AttentionHeads& heads, const RotaryTable& table);

}  // namespace espalier
