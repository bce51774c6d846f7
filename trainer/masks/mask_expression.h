#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace espalier {

// "context - 2", "2 * dream.depth + 1": whole numbers and settings by name, with + - *, products
// first. Throws std::invalid_argument that says what is wrong with the text.
int64_t evaluate_expression(const std::string& text,
                            const std::map<std::string, int64_t>& settings);

}  // namespace espalier
