#pragma once

#include <functional>
#include <string>
#include <string_view>

struct pcre2_real_code_8;

namespace espalier {

// A regular expression from a tokenizer file, compiled. Those files are written for Oniguruma; what
// means the same is rewritten for PCRE2 (white space; letters and numbers as of Unicode 16, which
// Hugging Face's tokenizers 0.23 has), and what would mean something else is refused.
// Any thread may match.
class SplitPattern {
 public:
  // DataError with the part of `oniguruma` that is not supported, and what is.
  explicit SplitPattern(const std::string& oniguruma);
  ~SplitPattern();
  SplitPattern(const SplitPattern&) = delete;
  SplitPattern& operator=(const SplitPattern&) = delete;

  // Every match, and every part between two, in order and never empty: joined they are the text.
  // Bytes that are not UTF-8 are in no match.
  void for_each_piece(std::string_view text,
                      const std::function<void(std::string_view)>& take) const;
  bool matches_in(std::string_view text) const;

  const std::string& source() const { return source_; }  // as it was given

 private:
  std::string source_;
  pcre2_real_code_8* code_ = nullptr;
};

}  // namespace espalier
