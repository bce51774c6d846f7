#include "data/text/byte_pair_tokenizer.h"

#include <functional>
#include <queue>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "data/errors.h"
#include "data/text/normal_form.h"

namespace espalier {
namespace {

uint64_t pair_key(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

struct Symbol {
  int32_t id = 0;
  int previous = -1;
  int next = -1;
  bool merged_away = false;
};

}  // namespace

int32_t BytePairTokenizer::add_token(std::string bytes, bool is_special) {
  const auto id = static_cast<int32_t>(bytes_of_.size());
  if (is_special) {
    added_[id] = {.id = id, .content = bytes, .is_special = true};
    id_of_added_[bytes] = id;
  } else if (bytes.size() == 1) {
    id_of_byte_[static_cast<uint8_t>(bytes[0])] = id;
  }
  bytes_of_.push_back(std::move(bytes));
  is_in_vocabulary_.push_back(true);
  return id;
}

void BytePairTokenizer::add_merge(int32_t left, int32_t right, int32_t result) {
  merge_of_[pair_key(left, right)] = {static_cast<int32_t>(merges_.size()), result};
  merges_.emplace_back(left, right);
}

void BytePairTokenizer::make_finders() {
  std::vector<AddedToken> in_text, in_normalized;
  for (const auto& [id, token] : added_) {
    (token.is_normalized ? in_normalized : in_text).push_back(token);
    if (token.is_normalized && is_normalized_)
      in_normalized.back().content = normal_form_c(token.content);
  }
  in_text_ = AddedTokenFinder(std::move(in_text));
  in_normalized_text_ = AddedTokenFinder(std::move(in_normalized));
}

// Applies the merge of lowest rank, leftmost first, until none is left: O(n log n) in the length.
void BytePairTokenizer::encode_piece(std::string_view piece, std::vector<int32_t>& ids) const {
  if (ignores_merges_) {
    const auto found = id_of_piece_.find(piece);
    if (found != id_of_piece_.end()) return ids.push_back(found->second);
  }
  const int length = static_cast<int>(piece.size());
  thread_local std::vector<Symbol> symbols;
  symbols.resize(piece.size());
  for (int i = 0; i < length; ++i)
    symbols[i] = {id_of_byte_[static_cast<uint8_t>(piece[i])], i - 1, i + 1 < length ? i + 1 : -1};

  // (rank, position, pair): an entry is stale when the pair at the position has changed since.
  using Candidate = std::tuple<int32_t, int, uint64_t>;
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  const auto consider = [&](int at) {
    if (at < 0 || symbols[at].next < 0) return;
    const uint64_t key = pair_key(symbols[at].id, symbols[symbols[at].next].id);
    const auto found = merge_of_.find(key);
    if (found != merge_of_.end()) candidates.emplace(found->second.rank, at, key);
  };
  for (int i = 0; i < length; ++i) consider(i);

  while (!candidates.empty()) {
    const auto [rank, at, key] = candidates.top();
    candidates.pop();
    Symbol& left = symbols[at];
    if (left.merged_away || left.next < 0 || pair_key(left.id, symbols[left.next].id) != key)
      continue;
    Symbol& right = symbols[left.next];
    left.id = merge_of_.at(key).result;
    left.next = right.next;
    right.merged_away = true;
    if (left.next >= 0) symbols[left.next].previous = at;
    consider(left.previous);
    consider(at);
  }
  for (int i = 0; i >= 0 && i < length; i = symbols[i].next) ids.push_back(symbols[i].id);
}

void BytePairTokenizer::encode_text(std::string_view text, std::vector<int32_t>& ids) const {
  pre_tokenizer_.for_each_piece(text, [&](std::string_view piece) { encode_piece(piece, ids); });
}

std::vector<int32_t> BytePairTokenizer::encode(std::string_view text, SpecialTokens special) const {
  using Part = AddedTokenFinder::Part;
  const bool as_text = special == SpecialTokens::kAsText;
  std::vector<int32_t> ids;
  const auto take_normalized = [&](const Part& part) {
    if (part.token != nullptr) return ids.push_back(part.token->id);
    encode_text(part.text, ids);
  };
  in_text_.for_each_part(text, as_text, [&](const Part& part) {
    if (part.token != nullptr) return ids.push_back(part.token->id);
    if (!is_normalized_)
      return in_normalized_text_.for_each_part(part.text, as_text, take_normalized);
    in_normalized_text_.for_each_part(normal_form_c(part.text), as_text, take_normalized);
  });
  return ids;
}

std::string BytePairTokenizer::decode(const std::vector<int32_t>& ids) const {
  std::string text;
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocabulary_size())
      throw std::out_of_range("token id " + std::to_string(id) + " is outside the vocabulary of " +
                              std::to_string(vocabulary_size()));
    const AddedToken* added = added_of(id);
    if (added == nullptr || !added->is_special) text += bytes_of_[id];
  }
  return text;
}

const AddedToken* BytePairTokenizer::added_of(int32_t id) const {
  const auto found = added_.find(id);
  return found == added_.end() ? nullptr : &found->second;
}

std::optional<int32_t> BytePairTokenizer::find_special(std::string_view token) const {
  const auto found = id_of_added_.find(token);
  return found == id_of_added_.end() ? std::nullopt : std::optional<int32_t>(found->second);
}

int32_t BytePairTokenizer::id_of(std::string_view special_token) const {
  if (const auto id = find_special(special_token)) return *id;
  throw DataError("the text tokenizer has no special token " + std::string(special_token));
}

std::vector<std::string> BytePairTokenizer::special_tokens() const {
  std::vector<std::string> tokens;
  for (const auto& [id, token] : added_)
    if (token.is_special) tokens.push_back(token.content);
  return tokens;
}

std::shared_ptr<const TextTokenizer> BytePairTokenizer::with_special_tokens(
    const std::vector<std::string>& tokens) const {
  auto more = std::make_shared<BytePairTokenizer>(*this);
  for (const std::string& token : tokens) {
    if (find_special(token)) throw DataError("added token " + token + " is there already");
    more->is_in_vocabulary_[more->add_token(token, true)] = false;
  }
  more->make_finders();
  return more;
}

}  // namespace espalier
