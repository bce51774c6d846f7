#pragma once

#include <functional>
#include <string_view>

namespace espalier {

// Cuts text into the pieces inside which byte pairs may merge: GPT-2's rule (words with their
// leading space, numbers, punctuation, white space, English contractions). The pieces joined are
// the text, for any bytes; parts that are not UTF-8 become pieces of their own.
void for_each_piece(std::string_view text, const std::function<void(std::string_view)>& take);

}  // namespace espalier
