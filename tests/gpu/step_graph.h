#pragma once

#include <cstdint>

#include <nlohmann/json.hpp>

#include "tests/gpu/decoder_step.h"

namespace espalier {

// Captures a whole step as one CUDA graph and replays it `steps` times, beside as many steps
// without from the same weights: milliseconds of each, the speedup, and how far the losses are
// apart. A step that cannot be captured is an answer too: "captures" false, and why.
nlohmann::json compare_with_graph(DecoderStep& step, int64_t steps);

}  // namespace espalier
