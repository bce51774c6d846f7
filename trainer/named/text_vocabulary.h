#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/text/text_tokenizer.h"
#include "trainer/config/run_config.h"
#include "trainer/named/image_split.h"

namespace espalier {

// Token ids that every sequence of text and images is built from.
struct SequenceTokens {
  int64_t end = 0;
  int64_t caption = 0;   // after an image: its name follows
  int64_t question = 0;  // after an image: a question, `answer`, the answer
  int64_t answer = 0;
  int64_t draw = 0;  // before a name: the image follows
  int64_t null = 0;  // in place of a name that was dropped

  static std::vector<std::string> special_tokens();  // in the order above
};

// A named text tokenizer, learned or brought, and the tokens that structure sequences.
class TextVocabulary {
 public:
  // Structure that `tokenizer` has no tokens for follows its last id; `config` may name one of its
  // own as the end. ConfigError when it has no such token.
  TextVocabulary(std::shared_ptr<const TextTokenizer> tokenizer, const TextConfig& config);

  std::vector<int64_t> encode(const std::string& text) const;
  // Valid UTF-8, whatever a model wrote; ids beyond the tokens are nothing.
  std::string decode(const std::vector<int32_t>& ids) const;
  int64_t size() const { return tokenizer_->vocabulary_size(); }
  const SequenceTokens& tokens() const { return tokens_; }
  const TextTokenizer& tokenizer() const { return *tokenizer_; }

 private:
  std::shared_ptr<const TextTokenizer> tokenizer_;
  SequenceTokens tokens_;
};

// A function of config and training texts alone, so every rank learns the same.
TextVocabulary learn_vocabulary(const TextConfig& config, const ImageSplit& train);

}  // namespace espalier
