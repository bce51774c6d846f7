#pragma once

#include "trainer/forward/forward_check.h"

namespace espalier {

inline constexpr const char* kDecoderInputs =
    "input_ids (batch, length); optionally attention_mask (1 = a token, 0 = padding), position_ids "
    "and labels (-100 = none), of the same shape";

// A decoder of Qwen2's or Llama's kind, run as the trunk and one branch of a Y: the code that
// training runs. Rows of padding that see no token, as those on the left do, are not computed:
// their outputs are zero.
TensorMap forward_decoder(const ForwardRequest& request);

}  // namespace espalier
