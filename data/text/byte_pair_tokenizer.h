#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "data/text/added_tokens.h"
#include "data/text/pre_tokenizer.h"
#include "data/text/text_tokenizer.h"

namespace espalier {

struct TokenizerJson;

// Whether text such as "<end>" inside an input means the special token or plain characters.
enum class SpecialTokens { kAsText, kParse };

// Byte-level byte pair encoding as in GPT-2, Qwen2 and Llama 3: any byte string has an encoding,
// and comes back unchanged but for what the file normalizes. Files are Hugging Face tokenizer.json,
// brought or written here, and the same text gives the same ids there. Bytes that are not UTF-8 are
// pieces of their own, which no regular expression of the file and no normalizer touches.
class BytePairTokenizer : public TextTokenizer {
 public:
  // Ids: special tokens first, in the order given, then the 256 bytes, then merges by frequency.
  // Ends early when no pair occurs twice, so vocabulary_size() may be smaller than asked for.
  static BytePairTokenizer train(const std::vector<std::string>& texts, int vocabulary_size,
                                 const std::vector<std::string>& special_tokens);
  static BytePairTokenizer load(const std::string& path);  // throws DataError
  // Of the file's text; errors call it `name`.
  static BytePairTokenizer parse(const std::string& text, const std::string& name);
  void save(const std::string& path) const;

  std::vector<int32_t> encode(std::string_view text, SpecialTokens special) const;
  std::vector<int32_t> encode(std::string_view text) const override {
    return encode(text, SpecialTokens::kAsText);
  }
  std::string decode(const std::vector<int32_t>& ids) const override;

  int vocabulary_size() const override { return static_cast<int>(bytes_of_.size()); }
  std::optional<int32_t> find_special(std::string_view token) const override;
  int32_t id_of(std::string_view special_token) const;  // throws DataError when there is none
  std::vector<std::string> special_tokens() const override;
  std::optional<int32_t> begin_id() const override { return begin_id_; }
  std::shared_ptr<const TextTokenizer> with_special_tokens(
      const std::vector<std::string>& tokens) const override;
  // A file that was read may be spelled differently, and means the same.
  std::string to_text() const override;
  std::string extension() const override { return kBytePairExtension; }

 private:
  struct Merge {
    int32_t rank = 0;
    int32_t result = 0;
  };
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };

  BytePairTokenizer();
  explicit BytePairTokenizer(const TokenizerJson& file);
  void read_vocabulary(const TokenizerJson& file);
  void read_merges(const TokenizerJson& file);
  int32_t add_token(std::string bytes, bool is_special);
  void add_merge(int32_t left, int32_t right, int32_t result);
  void make_finders();
  std::string spelling(int32_t id) const;
  const AddedToken* added_of(int32_t id) const;  // null: a token of the vocabulary alone
  void encode_text(std::string_view text, std::vector<int32_t>& ids) const;
  void encode_piece(std::string_view piece, std::vector<int32_t>& ids) const;

  std::string frame_;  // the file without vocabulary, merges and added tokens
  PreTokenizer pre_tokenizer_ = PreTokenizer::gpt2();
  bool is_normalized_ = false;
  bool ignores_merges_ = false;
  std::optional<int32_t> begin_id_;

  std::vector<std::string> bytes_of_;   // by id; added tokens hold their own text
  std::vector<bool> is_in_vocabulary_;  // by id; of the model, which added tokens need not be
  std::vector<int32_t> id_of_byte_ = std::vector<int32_t>(256, -1);
  std::vector<std::pair<int32_t, int32_t>> merges_;  // by rank
  std::unordered_map<uint64_t, Merge> merge_of_;     // key: left << 32 | right
  // Of pieces that are one token whatever the merges; empty unless ignores_merges_.
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> id_of_piece_;

  std::map<int32_t, AddedToken> added_;  // by id
  std::map<std::string, int32_t, std::less<>> id_of_added_;
  AddedTokenFinder in_text_, in_normalized_text_;
};

}  // namespace espalier
