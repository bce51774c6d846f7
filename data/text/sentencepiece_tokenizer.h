#pragma once

#include "data/text/text_tokenizer.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace espalier {

// A SentencePiece model (unigram or BPE, with or without byte fallback) through its own library:
// ids and normalization are those of the library. Bytes that are not UTF-8 become U+FFFD, and white
// space is what the model's normalizer leaves of it. Symbols that the model calls user-defined are
// found in texts; control symbols never are.
class SentencePieceTokenizer : public TextTokenizer {
 public:
  // Of the file's bytes; errors call it `name`. Throws DataError.
  static SentencePieceTokenizer parse(std::string bytes, const std::string& name);

  std::vector<int32_t> encode(std::string_view text) const override;
  std::string decode(const std::vector<int32_t>& ids) const override;
  int vocabulary_size() const override;
  std::optional<int32_t> find_special(std::string_view token) const override;
  std::vector<std::string> special_tokens() const override;
  std::optional<int32_t> begin_id() const override;
  // As control symbols.
  std::shared_ptr<const TextTokenizer> with_special_tokens(
      const std::vector<std::string>& tokens) const override;
  std::string to_text() const override { return bytes_; }
  std::string extension() const override { return kSentencePieceExtension; }

 private:
  SentencePieceTokenizer() = default;

  std::string name_;
  std::string bytes_;
  std::shared_ptr<const sentencepiece::SentencePieceProcessor> processor_;
};

}  // namespace espalier
