#pragma once

#include <string>
#include <string_view>

namespace espalier {

// Unicode Normalization Form C, of the characters of Unicode 9: those that Hugging Face's
// tokenizers (0.23 and before) know it for, so that ids are equal. Later ones, and bytes that are
// not UTF-8, stay where they are, and nothing is reordered or composed across them.
std::string normal_form_c(std::string_view text);

}  // namespace espalier
