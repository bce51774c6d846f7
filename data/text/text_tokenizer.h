#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace espalier {

// Text to token ids and back, as a file says: byte-level BPE in Hugging Face's tokenizer.json, or a
// SentencePiece model. Immutable once made; all methods may be called from any thread.
class TextTokenizer {
 public:
  virtual ~TextTokenizer() = default;

  // Special tokens spelled inside the text are text: captions come from outside. Bytes that are not
  // UTF-8 are allowed; what becomes of them is said by each kind.
  virtual std::vector<int32_t> encode(std::string_view text) const = 0;
  // Special tokens are left out. The bytes need not be valid UTF-8 when a model made the ids; see
  // replace_invalid_utf8() in data/text/utf8.h. Throws std::out_of_range for an id that does not
  // exist.
  virtual std::string decode(const std::vector<int32_t>& ids) const = 0;

  virtual int vocabulary_size() const = 0;
  virtual std::optional<int32_t> find_special(std::string_view token) const = 0;
  virtual std::vector<std::string> special_tokens() const = 0;  // by id
  // What the file would put before a text; encode() leaves that to its callers.
  virtual std::optional<int32_t> begin_id() const = 0;

  // The same tokenizer with more special tokens, whose ids follow the last one. DataError when a
  // token of that name is there.
  virtual std::shared_ptr<const TextTokenizer> with_special_tokens(
      const std::vector<std::string>& tokens) const = 0;

  virtual std::string to_text() const = 0;  // bytes of its file
  virtual std::string extension() const = 0;

 protected:
  TextTokenizer() = default;
  TextTokenizer(const TextTokenizer&) = default;
  TextTokenizer(TextTokenizer&&) = default;
  TextTokenizer& operator=(const TextTokenizer&) = default;
  TextTokenizer& operator=(TextTokenizer&&) = default;
};

// Endings of the files that hold one, as to_text() gives them.
inline constexpr const char* kBytePairExtension = ".json";
inline constexpr const char* kSentencePieceExtension = ".model";

// `path`: a tokenizer.json, a SentencePiece *.model, or a Hugging Face folder that holds one of
// them (a tokenizer.json first). DataError when there is none, or it asks for what is not done
// here.
std::shared_ptr<const TextTokenizer> open_text_tokenizer(const std::string& path);
// The file's bytes; `path` says of which kind they are, and names them in errors.
std::shared_ptr<const TextTokenizer> parse_text_tokenizer(const std::string& bytes,
                                                          const std::string& path);
// The file that open_text_tokenizer() reads; DataError when there is none.
std::string text_tokenizer_file(const std::string& path);

}  // namespace espalier
