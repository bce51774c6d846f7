#include "data/text/pre_tokenizer.h"

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace espalier {
namespace {

// White space is spelled out as Unicode's White_Space property, which is what \s means in Hugging
// Face tokenizers; PCRE2's \s has U+180E too.
#define ESPALIER_SPACE \
  R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})"
constexpr char kPattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d"
    R"(| ?\p{L}+| ?\p{N}+| ?[^\p{L}\p{N})" ESPALIER_SPACE
    "]+"
    "|[" ESPALIER_SPACE "]+(?![^" ESPALIER_SPACE
    "])"
    "|[" ESPALIER_SPACE "]+";
#undef ESPALIER_SPACE

[[noreturn]] void fail(const char* what, int code) {
  char message[256] = "";
  pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof(message));
  throw std::runtime_error(std::string("pre-tokenizer: ") + what + ": " + message);
}

struct Pattern {
  pcre2_code* code = nullptr;

  Pattern() {
    int error = 0;
    PCRE2_SIZE offset = 0;
    // Bytes that are not UTF-8 are never matched, instead of failing the whole text.
    code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(kPattern), PCRE2_ZERO_TERMINATED,
                         PCRE2_UTF | PCRE2_MATCH_INVALID_UTF, &error, &offset, nullptr);
    if (code == nullptr) fail("cannot compile the pattern", error);
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // without it matching is slower, not different
  }
  ~Pattern() { pcre2_code_free(code); }
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;
};

}  // namespace

void for_each_piece(std::string_view text, const std::function<void(std::string_view)>& take) {
  static const Pattern pattern;
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> match(
      pcre2_match_data_create_from_pattern(pattern.code, nullptr), pcre2_match_data_free);
  size_t taken = 0;
  while (taken < text.size()) {
    const int found = pcre2_match(pattern.code, reinterpret_cast<PCRE2_SPTR>(text.data()),
                                  text.size(), taken, 0, match.get(), nullptr);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) fail("cannot match", found);
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.get());
    if (range[0] > taken) take(text.substr(taken, range[0] - taken));
    take(text.substr(range[0], range[1] - range[0]));
    taken = range[1];
  }
  if (taken < text.size()) take(text.substr(taken));
}

}  // namespace espalier
