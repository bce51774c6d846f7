#include "data/text/utf8.h"

#include <algorithm>

namespace espalier {
namespace {

struct Range {
  int length = 0;  // bytes of the whole sequence
  uint8_t low = 0x80;
  uint8_t high = 0xBF;  // of the second byte
};

// Table 3-7 of the Unicode standard: no overlong forms, no surrogates, nothing above U+10FFFF.
Range range_of(uint8_t lead) {
  if (lead < 0x80) return {1};
  if (lead < 0xC2) return {0};
  if (lead < 0xE0) return {2};
  if (lead == 0xE0) return {3, 0xA0};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead < 0xF0) return {3};
  if (lead == 0xF0) return {4, 0x90};
  if (lead < 0xF4) return {4};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

// Length of the well-formed beginning of a code point, which is the whole of it when it is
// complete.
int prefix_length(std::string_view text, const Range& range) {
  int length = 1;
  while (length < range.length && length < static_cast<int>(text.size())) {
    const auto byte = static_cast<uint8_t>(text[length]);
    const bool fits =
        length == 1 ? byte >= range.low && byte <= range.high : byte >= 0x80 && byte <= 0xBF;
    if (!fits) break;
    ++length;
  }
  return length;
}

}  // namespace

int utf8_length(std::string_view text) {
  if (text.empty()) return 0;
  const Range range = range_of(static_cast<uint8_t>(text[0]));
  return prefix_length(text, range) == range.length ? range.length : 0;
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string result;
  while (!bytes.empty()) {
    const Range range = range_of(static_cast<uint8_t>(bytes[0]));
    const int length = prefix_length(bytes, range);
    if (length == range.length) {
      result += bytes.substr(0, length);
    } else {
      result += "\xEF\xBF\xBD";
    }
    bytes.remove_prefix(length);
  }
  return result;
}

int64_t count_code_points(std::string_view utf8) {
  return std::count_if(utf8.begin(), utf8.end(),
                       [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
}

}  // namespace espalier
