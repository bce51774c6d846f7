#pragma once

#include <ATen/core/Tensor.h>

#include "models/image_tokenizer/image_tokenizer.h"

namespace espalier {

// What a branch that reads pictures is given of their meaning, by a frozen image tokenizer: codes
// (B, positions, stages) -> (B, positions, channels) bf16, rows of unit size.
at::Tensor picture_semantics(ImageTokenizer& tokenizer, const at::Tensor& codes);

}  // namespace espalier
