#include "data/text/split_pattern.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "data/errors.h"
#include "data/text/pattern_dialect.h"
#include "data/text/utf8.h"

namespace espalier {
namespace {

std::string message_of(int code) {
  char message[256] = "";
  pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof(message));
  return message;
}

// What a thread matches with. Making it for every piece of a text would cost more than matching.
struct Scratch {
  pcre2_match_data* data = pcre2_match_data_create(16, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);

  Scratch() {
    // A megabyte of spaces is text, too; patterns that match at all do so in linear time.
    pcre2_set_match_limit(context, std::numeric_limits<uint32_t>::max());
  }
  ~Scratch() {
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

struct Range {
  size_t begin = 0;
  size_t end = 0;
};

// The first match at or after `from`; false when there is none.
bool find(const pcre2_code* code, std::string_view text, size_t from, Range& range) {
  thread_local const Scratch scratch;
  const int found = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                                0, scratch.data, scratch.context);
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0) throw std::runtime_error("splitting a text: " + message_of(found));
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(scratch.data);
  range = {ends[0], ends[1]};
  return true;
}

}  // namespace

SplitPattern::SplitPattern(const std::string& oniguruma) : source_(oniguruma) {
  const std::string pattern = pcre2_pattern(oniguruma);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // Bytes that are not UTF-8 are never matched, instead of failing the whole text.
  code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                        PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &error, &offset, nullptr);
  if (code_ == nullptr)
    throw DataError("the pattern \"" + oniguruma +
                    "\" is no regular expression: " + message_of(error));
  pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE);  // without it matching is slower, not different
}

SplitPattern::~SplitPattern() { pcre2_code_free(code_); }

void SplitPattern::for_each_piece(std::string_view text,
                                  const std::function<void(std::string_view)>& take) const {
  size_t taken = 0, from = 0;
  Range match;
  while (from < text.size() && find(code_, text, from, match)) {
    if (match.begin > taken) take(text.substr(taken, match.begin - taken));
    if (match.end > match.begin) take(text.substr(match.begin, match.end - match.begin));
    taken = from = match.end;
    // An empty match cuts, and the next one is looked for behind the character there.
    if (match.end == match.begin) from += std::max(1, utf8_length(text.substr(from)));
  }
  if (taken < text.size()) take(text.substr(taken));
}

bool SplitPattern::matches_in(std::string_view text) const {
  Range match;
  return find(code_, text, 0, match);
}

}  // namespace espalier
