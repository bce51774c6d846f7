#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/forward/forward_check.h"

namespace espalier {

// A short run of the small Y of real_things.h and its export, made once by the first test that
// asks.
struct UnifiedRun {
  std::string run, folder;
};
const UnifiedRun& unified_run();

// The numbers of its branches, which are in alphabetical order.
constexpr int64_t kGeneration = 0, kUnderstanding = 1;
// Of a picture: positions, stages of pixels and all of them, and what a code may be below.
struct UnifiedSizes {
  static constexpr int64_t positions = 64, pixel_stages = 4, stages = 6, codes = 16;
};

// Some sequences as input_ids, filled up on the right with padding, and attention_mask; where
// padding is, the ids are of no token.
void set_sequences(const std::vector<std::vector<int64_t>>& sequences, TensorMap& inputs);
at::Tensor random_codes(int64_t pictures);

// Two sequences with pictures for each of the branches, in an export of that run.
ForwardRequest reading_request(const std::string& folder);
ForwardRequest drawing_request(const std::string& folder);

}  // namespace espalier
