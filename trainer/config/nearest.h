#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace espalier {

// Letters to insert, remove or replace until one text is the other (Levenshtein).
size_t edit_distance(std::string_view a, std::string_view b);

// The word that was meant by one that is not among `words`; "" when none is near.
std::string nearest_word(const std::string& word, const std::vector<std::string>& words);

}  // namespace espalier
