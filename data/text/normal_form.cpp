#include "data/text/normal_form.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <stdexcept>

#include <utf8proc.h>

#include "data/text/split_pattern.h"
#include "data/text/utf8.h"

namespace espalier {
namespace {

// Marks that Unicode 10 to 15 added, which utf8proc reorders, and U+11930, which it composes.
constexpr char kLaterMarks[] =
    R"([\x{7FD}\x{898}-\x{89F}\x{8CA}-\x{8D3}\x{9FE}\x{C3C}\x{D3B}\x{D3C}\x{EBA}\x{1715})"
    R"(\x{1ABF}-\x{1ACE}\x{1DF6}-\x{1DFA}\x{A82C}\x{10D24}-\x{10D27}\x{10EAB}\x{10EAC})"
    R"(\x{10EFD}-\x{10EFF}\x{10F46}-\x{10F50}\x{10F82}-\x{10F85}\x{11070}\x{1133B}\x{1145E})"
    R"(\x{11839}\x{1183A}\x{11930}\x{1193D}\x{1193E}\x{11943}\x{119E0}\x{11A34}\x{11A47})"
    R"(\x{11A99}\x{11D42}\x{11D44}\x{11D45}\x{11D97}\x{11F41}\x{11F42}\x{16FF0}\x{16FF1})"
    R"(\x{1E08F}\x{1E130}-\x{1E136}\x{1E2AE}\x{1E2EC}-\x{1E2EF}\x{1E4EC}-\x{1E4EF}])";

// Bytes at the start of `text` that are UTF-8.
size_t valid_length(std::string_view text) {
  size_t valid = 0;
  while (valid < text.size()) {
    const int length = utf8_length(text.substr(valid));
    if (length == 0) break;
    valid += static_cast<size_t>(length);
  }
  return valid;
}

void append_normalized(std::string_view valid, std::string& result) {
  utf8proc_uint8_t* made = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(valid.data()),
                   static_cast<utf8proc_ssize_t>(valid.size()), &made,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(made, std::free);
  if (length < 0)
    throw std::runtime_error(std::string("normal form C: ") + utf8proc_errmsg(length));
  result.append(reinterpret_cast<const char*>(made), static_cast<size_t>(length));
}

}  // namespace

std::string normal_form_c(std::string_view text) {
  // Nothing below U+0300 changes, and most texts are of such characters: those whose lead byte is
  // below 0xCC.
  if (std::all_of(text.begin(), text.end(),
                  [](char c) { return static_cast<unsigned char>(c) < 0xCC; }))
    return std::string(text);
  static const SplitPattern later_marks(kLaterMarks);
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const size_t valid = valid_length(text);
    later_marks.for_each_piece(text.substr(0, valid),
                               [&](std::string_view piece) { append_normalized(piece, result); });
    text.remove_prefix(valid);
    if (text.empty()) break;
    result += text[0];
    text.remove_prefix(1);
  }
  return result;
}

}  // namespace espalier
