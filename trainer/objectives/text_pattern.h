#pragma once

#include <string>
#include <vector>

#include "data/sample.h"

namespace espalier {

// A text with places for fields of a sample: "what colour is the {shape}?". Braces have no other
// use in it.

// Names of the fields, in their order. ConfigError, which begins with `where`, for a brace without
// its pair or without a name.
std::vector<std::string> fields_of_pattern(const std::string& pattern, const std::string& where);

// The text of one sample; of a field with several texts, the first.
std::string fill_pattern(const std::string& pattern, const Sample& sample);

}  // namespace espalier
