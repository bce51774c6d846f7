#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/attention/attention_mask.h"

namespace espalier {

// Sequences none of which sees another, as one batch of equal lengths for one call of a fused
// kernel: token t of sequence s is cell s * length + t. Shorter ones are padded behind their end,
// where no causal token looks. A launch for each sequence would keep a GPU waiting for the host.
struct SequenceBatch {
  int64_t count = 0;   // sequences of one sample
  int64_t length = 0;  // cells of each
  bool is_causal = false;
  // Where the cells are the rows, no more than numbered otherwise: rows between the first tokens of
  // sequences, and between tokens. Else 0, and `cells` says where each row goes.
  int64_t sequence_step = 0, token_step = 0;
  at::Tensor cells = {};  // (rows) int64
};

// Lengths that differ are filled up to a multiple of this, so that shapes come again.
constexpr int64_t kPaddedMultiple = 64;

// Nothing where the mask is one sequence, where one sees another, and where padding would be seen.
std::optional<SequenceBatch> make_sequence_batch(const std::vector<MaskGroup>& groups);

// (samples * rows, width) -> (samples * count, length, width), zeros in the padding; and back.
at::Tensor to_cells(const SequenceBatch& batch, const at::Tensor& rows, int64_t samples);
at::Tensor from_cells(const SequenceBatch& batch, const at::Tensor& cells, int64_t samples);

}  // namespace espalier
