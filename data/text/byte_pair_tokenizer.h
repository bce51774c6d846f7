#pragma once

#include <cstdint>
#include <iosfwd>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace espalier {

// Whether text such as "<end>" inside an input means the special token or seven plain characters.
// Captions come from outside, so the default is text.
enum class SpecialTokens { kAsText, kParse };

// Byte-level byte pair encoding as in GPT-2: any byte string has an encoding and comes back
// unchanged. Files are Hugging Face tokenizer.json, and the same text gives the same ids there.
// Immutable once made; all methods may be called from any thread.
class BytePairTokenizer {
 public:
  // Ids: special tokens first, in the order given, then the 256 bytes, then merges by frequency.
  // Ends early when no pair occurs twice, so vocabulary_size() may be smaller than asked for.
  static BytePairTokenizer train(const std::vector<std::string>& texts, int vocabulary_size,
                                 const std::vector<std::string>& special_tokens);
  static BytePairTokenizer load(const std::string& path);  // throws DataError
  // Of the file's text; errors call it `name`.
  static BytePairTokenizer parse(const std::string& text, const std::string& name);
  std::string to_text() const;  // of the file
  void save(const std::string& path) const;

  std::vector<int32_t> encode(std::string_view text,
                              SpecialTokens special = SpecialTokens::kAsText) const;
  // Special tokens are left out. The bytes need not be valid UTF-8 when a model made the ids; see
  // replace_invalid_utf8() in data/text/utf8.h. Throws std::out_of_range for an id that does not
  // exist.
  std::string decode(const std::vector<int32_t>& ids) const;

  int vocabulary_size() const { return static_cast<int>(bytes_of_.size()); }
  int32_t id_of(std::string_view special_token) const;  // throws DataError when there is none
  std::vector<std::string> special_tokens() const;      // by id

 private:
  static BytePairTokenizer read(std::istream& in, const std::string& name);
  struct Merge {
    int32_t rank = 0;
    int32_t result = 0;
  };

  BytePairTokenizer() = default;
  int32_t add_token(std::string bytes, bool is_special);
  void add_merge(int32_t left, int32_t right, int32_t result);
  void encode_text(std::string_view text, std::vector<int32_t>& ids) const;
  void encode_piece(std::string_view piece, std::vector<int32_t>& ids) const;

  std::vector<std::string> bytes_of_;  // by id; special tokens hold their own text
  std::vector<bool> is_special_;       // by id
  std::vector<int32_t> id_of_byte_ = std::vector<int32_t>(256, -1);
  std::vector<std::pair<int32_t, int32_t>> merges_;  // by rank
  std::unordered_map<uint64_t, Merge> merge_of_;     // key: left << 32 | right
  std::map<std::string, int32_t, std::less<>> special_;
};

}  // namespace espalier
