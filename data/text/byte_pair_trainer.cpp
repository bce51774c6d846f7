#include <algorithm>
#include <queue>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "data/errors.h"
#include "data/text/byte_alphabet.h"
#include "data/text/byte_pair_tokenizer.h"

namespace espalier {
namespace {

using Pair = std::pair<int32_t, int32_t>;

struct PairHash {
  size_t operator()(const Pair& pair) const {
    return std::hash<uint64_t>{}(uint64_t{static_cast<uint32_t>(pair.first)} << 32 |
                                 static_cast<uint32_t>(pair.second));
  }
};

struct Word {
  std::vector<int32_t> symbols;
  int64_t count = 0;
};

// Most frequent first; among equals the pair of lower ids, so that training is reproducible.
struct Candidate {
  int64_t count = 0;
  Pair pair;
  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

// Counts of adjacent pairs over all words, kept up to date while merges are applied.
class PairCounts {
 public:
  explicit PairCounts(std::vector<Word> words) : words_(std::move(words)) {
    for (size_t w = 0; w < words_.size(); ++w) count(w, +1);
    for (const auto& [pair, total] : counts_) candidates_.push({total, pair});
    changed_.clear();
  }

  // The most frequent pair that occurs at least twice; false when there is none.
  bool best(Pair& pair) {
    while (!candidates_.empty()) {
      const Candidate top = candidates_.top();
      candidates_.pop();
      if (counts_[top.pair] != top.count) continue;  // stale: a newer entry follows
      if (top.count < 2) return false;
      pair = top.pair;
      return true;
    }
    return false;
  }

  void merge(const Pair& pair, int32_t result) {
    const std::unordered_set<size_t> affected = std::move(words_with_[pair]);
    for (const size_t w : affected) {
      count(w, -1);
      std::vector<int32_t>& symbols = words_[w].symbols;
      size_t kept = 0;
      for (size_t i = 0; i < symbols.size(); ++i) {
        const bool here = i + 1 < symbols.size() && Pair(symbols[i], symbols[i + 1]) == pair;
        symbols[kept++] = here ? result : symbols[i];
        if (here) ++i;
      }
      symbols.resize(kept);
      count(w, +1);
    }
    for (const Pair& changed : changed_) candidates_.push({counts_[changed], changed});
    changed_.clear();
  }

 private:
  void count(size_t w, int64_t sign) {
    const Word& word = words_[w];
    for (size_t i = 0; i + 1 < word.symbols.size(); ++i) {
      const Pair pair(word.symbols[i], word.symbols[i + 1]);
      counts_[pair] += sign * word.count;
      if (sign > 0) words_with_[pair].insert(w);
      changed_.insert(pair);
    }
  }

  std::vector<Word> words_;
  std::unordered_map<Pair, int64_t, PairHash> counts_;
  std::unordered_map<Pair, std::unordered_set<size_t>, PairHash> words_with_;
  std::priority_queue<Candidate> candidates_;
  std::set<Pair> changed_;
};

}  // namespace

BytePairTokenizer BytePairTokenizer::train(const std::vector<std::string>& texts,
                                           int vocabulary_size,
                                           const std::vector<std::string>& special_tokens) {
  const int smallest = 256 + static_cast<int>(special_tokens.size());
  if (vocabulary_size < smallest)
    throw DataError("a vocabulary of " + std::to_string(vocabulary_size) +
                    " is too small: 256 bytes and " + std::to_string(special_tokens.size()) +
                    " special tokens need " + std::to_string(smallest));
  BytePairTokenizer tokenizer;
  for (const std::string& token : special_tokens) {
    if (token.size() < 2 || tokenizer.id_of_added_.contains(token))
      throw DataError("special tokens must be distinct and longer than a byte: \"" + token + "\"");
    tokenizer.add_token(token, true);
  }
  for (int byte = 0; byte < 256; ++byte)
    tokenizer.add_token(std::string(1, static_cast<char>(byte)), false);

  std::map<std::string, int64_t> pieces;
  for (const std::string& text : texts)
    tokenizer.pre_tokenizer_.for_each_piece(
        text, [&](std::string_view piece) { ++pieces[std::string(piece)]; });
  std::vector<Word> words;
  for (const auto& [piece, count] : pieces) {
    Word word{{}, count};
    for (const char c : piece)
      word.symbols.push_back(tokenizer.id_of_byte_[static_cast<uint8_t>(c)]);
    words.push_back(std::move(word));
  }

  // Two merges may spell the same token ("a"+"bc", "ab"+"c"): it keeps one id. A token spelled like
  // a special one would be mistaken for it in the file, so it is not made.
  std::unordered_map<std::string, int32_t> made;
  PairCounts counts(std::move(words));
  Pair pair;
  while (tokenizer.vocabulary_size() < vocabulary_size && counts.best(pair)) {
    const auto [left, right] = pair;
    const std::string bytes = tokenizer.bytes_of_[left] + tokenizer.bytes_of_[right];
    if (tokenizer.id_of_added_.contains(spell_bytes(bytes))) continue;
    const auto [found, is_new] = made.try_emplace(bytes, tokenizer.vocabulary_size());
    if (is_new) tokenizer.add_token(bytes, false);
    tokenizer.add_merge(left, right, found->second);
    counts.merge(pair, found->second);
  }
  tokenizer.make_finders();
  return tokenizer;
}

}  // namespace espalier
