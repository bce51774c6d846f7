#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace espalier {

// Bytes at the start of `text` that form one well-formed UTF-8 code point; 0 when they do not.
int utf8_length(std::string_view text);

// Each maximal ill-formed part becomes U+FFFD, as in Python's errors="replace".
std::string replace_invalid_utf8(std::string_view bytes);

int64_t count_code_points(std::string_view utf8);

}  // namespace espalier
