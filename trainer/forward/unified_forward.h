#pragma once

#include "trainer/forward/forward_check.h"

namespace espalier {

inline constexpr const char* kUnifiedInputs =
    "branch (1), its number in alphabetical order; input_ids (batch, length), -1 = a whole "
    "picture, "
    "the last one of each sequence being drawn by a branch of codes; codes (pictures, positions, "
    "stages) of these pictures; optionally attention_mask (0 = padding, on the right) and, for a "
    "branch of text, labels (-100 = none), of the shape of input_ids";

// The decoder of an export, by the code that training runs, its image tokenizer frozen. A branch
// for text reads pictures with their semantic vectors: outputs of a column are those of its last
// row. A branch for codes predicts all positions of the last picture of each sequence from what
// comes before them: logits (batch, positions, stages, codebook), and the mean loss of these codes.
// Cells of padding are zero.
TensorMap forward_unified(const ForwardRequest& request);

}  // namespace espalier
