#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/text/split_pattern.h"

namespace espalier {

// Cuts text into the pieces inside which byte pairs may merge, step by step: every piece of one
// step goes through the next. For any bytes the pieces joined are the text, but for the spaces that
// a step puts before pieces. Any thread may call.
class PreTokenizer {
 public:
  struct Step {
    std::shared_ptr<const SplitPattern> pattern;  // none: the piece stays whole
    bool adds_prefix_space = false;               // where the piece does not begin with one
  };

  // GPT-2's rule: words with their leading space, numbers, punctuation, white space, English
  // contractions.
  static PreTokenizer gpt2();
  explicit PreTokenizer(std::vector<Step> steps) : steps_(std::move(steps)) {}

  void for_each_piece(std::string_view text,
                      const std::function<void(std::string_view)>& take) const;

 private:
  std::vector<Step> steps_;
};

// The pattern of gpt2(), as Oniguruma reads it.
extern const char* const kGpt2Pattern;

}  // namespace espalier
