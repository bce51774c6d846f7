#include "data/text/pre_tokenizer.h"

#include <utility>

namespace espalier {
namespace {

using Take = std::function<void(std::string_view)>;

void cut(const PreTokenizer::Step* step, const PreTokenizer::Step* end, std::string_view text,
         const Take& take) {
  if (text.empty()) return;
  if (step == end) return take(text);
  std::string with_space;
  if (step->adds_prefix_space && text[0] != ' ') {
    with_space = " " + std::string(text);
    text = with_space;
  }
  if (step->pattern == nullptr) return cut(step + 1, end, text, take);
  if (step + 1 == end) return step->pattern->for_each_piece(text, take);
  step->pattern->for_each_piece(text,
                                [&](std::string_view piece) { cut(step + 1, end, piece, take); });
}

}  // namespace

const char* const kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

PreTokenizer PreTokenizer::gpt2() {
  static const auto pattern = std::make_shared<const SplitPattern>(kGpt2Pattern);
  return PreTokenizer({{pattern, false}});
}

void PreTokenizer::for_each_piece(std::string_view text, const Take& take) const {
  cut(steps_.data(), steps_.data() + steps_.size(), text, take);
}

}  // namespace espalier
