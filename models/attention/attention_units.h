#pragma once

#include <cstdint>
#include <vector>

#include "models/attention/attention_mask.h"

namespace espalier {

// Groups that ask together: one group, or a chain of causal groups, each of which sees what the one
// before it sees and that one: together they are one causal square.
struct AttentionUnit {
  std::vector<int64_t> groups;  // in the order of their rows
  std::vector<int64_t> keys;    // groups seen in full, the own one where it is; sorted
  bool is_causal = false;       // and besides, its own groups causally
};

// All groups that ask, in the order of their rows. A causal group of one token sees itself: the
// same as a full one.
std::vector<AttentionUnit> make_attention_units(const std::vector<MaskGroup>& groups);

int64_t tokens_of(const std::vector<MaskGroup>& groups, const std::vector<int64_t>& numbers);

}  // namespace espalier
