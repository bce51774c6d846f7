#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/decoder/y_model.h"
#include "trainer/forward/forward_inputs.h"
#include "trainer/forward/forward_outputs.h"

namespace espalier {

// What `espalier forward` is given for a branch of a unified model. A column is one text token or
// one picture.
struct UnifiedBatch {
  int64_t branch = 0;
  at::Tensor ids;     // (batch, columns) int64: tokens, or kPicture
  at::Tensor mask;    // (batch, columns) bool: 0 = padding, on the right
  at::Tensor codes;   // (pictures, positions, stages of the tokenizer) int64, in the order of ids
  at::Tensor labels;  // (batch, columns) int64, undefined = none
};

// Reads and checks it; ConfigError that names the tensor, what it has and what was expected.
// `stages` is that of the image tokenizer, deeper ones included.
UnifiedBatch read_unified_batch(const ForwardInputs& in, const YModelOptions& options,
                                int64_t stages);

// The batch as packed rows, and which of them are asked for an output: a branch for text for the
// last row of each column, one for codes for the rows before each position of the last picture.
struct UnifiedRows {
  TokenRows rows;             // all but code_sums and semantics
  at::Tensor image_rows;      // (I) int64: picture * positions + position of each image position
  at::Tensor asked;           // (M) int64 rows
  OutputCells cells;          // of the rows asked
  at::Tensor drawn_pictures;  // (batch) int64; undefined for text
};
UnifiedRows pack_unified(const UnifiedBatch& batch, const YModelOptions& options);

}  // namespace espalier
