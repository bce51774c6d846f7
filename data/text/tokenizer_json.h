#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/text/added_tokens.h"
#include "data/text/pre_tokenizer.h"

namespace espalier {

// What Hugging Face's tokenizer.json says, as far as byte-level BPE needs it.
struct TokenizerJson {
  std::string name;  // of the file, for errors
  // The file, with null in place of the three lists below: the rest of what is written again.
  nlohmann::ordered_json frame;
  std::vector<std::pair<std::string, int64_t>> vocabulary;  // tokens as they are spelled
  std::vector<std::pair<std::string, std::string>> merges;  // the first come first
  std::vector<AddedToken> added;

  PreTokenizer pre_tokenizer{{}};
  bool is_normalized = false;   // to Normalization Form C
  bool ignores_merges = false;  // of pieces that are tokens themselves
  std::optional<int32_t> begin_id;

  // DataError: in `name`, `key` is `got`, and what is expected.
  [[noreturn]] void refuse(const std::string& key, const std::string& got,
                           const std::string& expected) const;
};

// What the file asks for and byte-level BPE here would not do (other models, normalizers and
// pre-tokenizers, dropout) is refused with DataError, never ignored. A decoder and a post-processor
// are accepted where they do not change what plain encoding gives; truncation and padding are
// dropped, as Hugging Face's transformers do.
TokenizerJson read_tokenizer_json(const std::string& text, const std::string& name);

}  // namespace espalier
