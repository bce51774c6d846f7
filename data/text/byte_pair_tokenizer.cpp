#include "data/text/byte_pair_tokenizer.h"

#include <functional>
#include <queue>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "data/errors.h"
#include "data/text/pre_tokenizer.h"

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
    special_[bytes] = id;
  } else if (bytes.size() == 1) {
    id_of_byte_[static_cast<uint8_t>(bytes[0])] = id;
  }
  bytes_of_.push_back(std::move(bytes));
  is_special_.push_back(is_special);
  return id;
}

void BytePairTokenizer::add_merge(int32_t left, int32_t right, int32_t result) {
  merge_of_[pair_key(left, right)] = {static_cast<int32_t>(merges_.size()), result};
  merges_.emplace_back(left, right);
}

// Applies the merge of lowest rank, leftmost first, until none is left: O(n log n) in the length.
void BytePairTokenizer::encode_piece(std::string_view piece, std::vector<int32_t>& ids) const {
  const int length = static_cast<int>(piece.size());
  std::vector<Symbol> symbols(piece.size());
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
  for_each_piece(text, [&](std::string_view piece) { encode_piece(piece, ids); });
}

std::vector<int32_t> BytePairTokenizer::encode(std::string_view text, SpecialTokens special) const {
  std::vector<int32_t> ids;
  size_t start = 0;  // of the text not yet encoded
  size_t at = special == SpecialTokens::kParse ? 0 : text.size();
  while (at < text.size()) {
    // The longest special token that begins here, as Hugging Face chooses it.
    std::string_view best;
    for (const auto& [token, id] : special_) {
      if (token.size() > best.size() && text.substr(at).starts_with(token)) best = token;
    }
    if (best.empty()) {
      ++at;
      continue;
    }
    encode_text(text.substr(start, at - start), ids);
    ids.push_back(special_.find(best)->second);
    at += best.size();
    start = at;
  }
  encode_text(text.substr(start), ids);
  return ids;
}

std::string BytePairTokenizer::decode(const std::vector<int32_t>& ids) const {
  std::string text;
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocabulary_size())
      throw std::out_of_range("token id " + std::to_string(id) + " is outside the vocabulary of " +
                              std::to_string(vocabulary_size()));
    if (!is_special_[id]) text += bytes_of_[id];
  }
  return text;
}

int32_t BytePairTokenizer::id_of(std::string_view special_token) const {
  const auto found = special_.find(special_token);
  if (found == special_.end())
    throw DataError("the text tokenizer has no special token " + std::string(special_token));
  return found->second;
}

std::vector<std::string> BytePairTokenizer::special_tokens() const {
  std::vector<std::string> tokens;
  for (size_t id = 0; id < bytes_of_.size(); ++id) {
    if (is_special_[id]) tokens.push_back(bytes_of_[id]);
  }
  return tokens;
}

}  // namespace espalier
