#include "data/text/added_tokens.h"

#include <algorithm>

#include "data/text/split_pattern.h"
#include "data/text/utf8.h"

namespace espalier {
namespace {

// The last character of `text`: its well-formed UTF-8, or else its last byte.
std::string_view last_character(std::string_view text) {
  for (size_t length = 1; length <= std::min<size_t>(4, text.size()); ++length) {
    const std::string_view end = text.substr(text.size() - length);
    if (utf8_length(end) == static_cast<int>(length)) return end;
  }
  return text.substr(text.size() - std::min<size_t>(1, text.size()));
}

std::string_view first_character(std::string_view text) {
  return text.substr(0, static_cast<size_t>(std::max(1, utf8_length(text))));
}

bool is_space(std::string_view character) {
  static const SplitPattern space(R"(\s)");
  return !character.empty() && space.matches_in(character);
}

// What the regular expressions of Rust, which decide here, call a word character.
bool is_of_word(std::string_view character) {
  static const SplitPattern word(R"([\p{L}\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}])");
  return !character.empty() && word.matches_in(character);
}

size_t spaces_at_end(std::string_view text) {
  const size_t whole = text.size();
  while (is_space(last_character(text))) text.remove_suffix(last_character(text).size());
  return whole - text.size();
}

size_t spaces_at_start(std::string_view text) {
  const size_t whole = text.size();
  while (is_space(first_character(text))) text.remove_prefix(first_character(text).size());
  return whole - text.size();
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (tokens_[i].content.empty()) continue;
    by_first_byte_[static_cast<uint8_t>(tokens_[i].content[0])].push_back(i);
  }
  for (std::vector<size_t>& indices : by_first_byte_)
    std::stable_sort(indices.begin(), indices.end(), [&](size_t a, size_t b) {
      return tokens_[a].content.size() > tokens_[b].content.size();
    });
}

const AddedToken* AddedTokenFinder::longest_at(std::string_view text) const {
  for (const size_t i : by_first_byte_[static_cast<uint8_t>(text[0])])
    if (text.starts_with(tokens_[i].content)) return &tokens_[i];
  return nullptr;
}

void AddedTokenFinder::for_each_part(std::string_view text, bool special_as_text,
                                     const std::function<void(const Part&)>& take) const {
  size_t taken = 0, at = 0;
  while (at < text.size()) {
    const AddedToken* token = longest_at(text.substr(at));
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + token->content.size();
    at = end;
    if (special_as_text && token->is_special) continue;
    if (token->is_word && (is_of_word(last_character(text.substr(0, begin))) ||
                           is_of_word(first_character(text.substr(end)))))
      continue;
    if (token->takes_left) begin = std::max(taken, begin - spaces_at_end(text.substr(0, begin)));
    if (token->takes_right) end += spaces_at_start(text.substr(end));
    // A token whose beginning the one before took along is still a token.
    begin = std::max(begin, taken);
    if (taken < begin) take({text.substr(taken, begin - taken), nullptr});
    take({text.substr(begin, std::max(begin, end) - begin), token});
    taken = std::max(begin, end);
  }
  if (taken < text.size()) take({text.substr(taken), nullptr});
}

}  // namespace espalier
