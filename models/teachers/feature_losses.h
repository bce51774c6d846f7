#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace espalier {

// How far features are from a teacher's, as EvoTok measures it: over all rows the sum of
// (1 - cos) + mean over `folds` equal pieces of the channels of (1 - cos of the piece). The folds
// keep a few strong channels from deciding alone. Scalar fp32; gradient to `features` only.
// features and teacher (rows, C), any floating type; C divides by folds. A row or piece whose
// teacher is zero counts as cos 0.
at::Tensor cosine_fold_loss(const at::Tensor& features, const at::Tensor& teacher, int64_t folds);

// cos of each row, fp32, no gradient.
at::Tensor cosine_of_rows(const at::Tensor& features, const at::Tensor& teacher);

}  // namespace espalier
