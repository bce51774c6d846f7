#pragma once

#include <string>
#include <vector>

#include "data/sample.h"

namespace espalier {

// The texts of a sample under a field's name: one, or for keywords any number. ConfigError for a
// name that no sample has; `asked_by` is the setting that gave it.
std::vector<std::string> field_texts(const Sample& sample, const std::string& field,
                                     const std::string& asked_by);

// `count` of 0..size-1, evenly spread; all of them when count is 0 or more than there are.
std::vector<int64_t> spread_indices(int64_t count, int64_t size);

}  // namespace espalier
