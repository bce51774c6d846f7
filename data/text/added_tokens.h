#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace espalier {

// A token that is looked for in the text itself, before it is cut and merged.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool is_special = false;     // left out by decode; inside a text it may be asked to be text
  bool takes_left = false;     // the white space before it is part of it ("lstrip")
  bool takes_right = false;    // and that after it ("rstrip")
  bool is_word = false;        // not where a letter or digit stands beside it ("single_word")
  bool is_normalized = false;  // looked for in the normalized text, itself normalized
};

// Finds added tokens in a text as Hugging Face's tokenizers do: leftmost first, the longest of
// those that begin there. Any thread may call.
class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;
  // `content` of each is what is looked for; empty ones never are.
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  struct Part {
    std::string_view text;
    const AddedToken* token = nullptr;  // null: text between tokens, not empty
  };
  // In order. With `special_as_text`, special tokens are passed over, and so is what overlaps them.
  void for_each_part(std::string_view text, bool special_as_text,
                     const std::function<void(const Part&)>& take) const;

 private:
  const AddedToken* longest_at(std::string_view text) const;  // null: none begins there

  std::vector<AddedToken> tokens_;
  std::array<std::vector<size_t>, 256> by_first_byte_;  // indices, the longest first
};

}  // namespace espalier
