#include "data/text/pattern_dialect.h"

#include <array>
#include <cctype>
#include <cstring>
#include <string_view>

#include "data/errors.h"

namespace espalier {
namespace {

// Unicode's White_Space, which is Oniguruma's \s; PCRE2's has U+180E too.
constexpr char kSpace[] =
    R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr char kNoSpace[] =
    R"(\x{0}-\x{8}\x{E}-\x{1F}!-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027})"
    R"(\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";
// What Unicode 15, 15.1 and 16 added to the letters and numbers of Unicode 14, which Debian 12's
// PCRE2 knows; a newer PCRE2 has them twice, to no effect.
constexpr char kNewLetters[] =
    R"(\x{1C89}\x{1C8A}\x{A7CB}-\x{A7CD}\x{A7DA}-\x{A7DC}\x{105C0}-\x{105F3}\x{10D4A}-\x{10D65})"
    R"(\x{10D6F}-\x{10D85}\x{10EC2}-\x{10EC4}\x{1123F}\x{11240}\x{11380}-\x{11389}\x{1138B}\x{1138E})"
    R"(\x{11390}-\x{113B5}\x{113B7}\x{113D1}\x{113D3}\x{11BC0}-\x{11BE0}\x{11F02}\x{11F04}-\x{11F10})"
    R"(\x{11F12}-\x{11F33}\x{1342F}\x{13441}-\x{13446}\x{13460}-\x{143FA}\x{16100}-\x{1611D})"
    R"(\x{16D40}-\x{16D6C}\x{18CFF}\x{1B132}\x{1B155}\x{1DF25}-\x{1DF2A}\x{1E030}-\x{1E06D})"
    R"(\x{1E4D0}-\x{1E4EB}\x{1E5D0}-\x{1E5ED}\x{1E5F0}\x{2B739}\x{2EBF0}-\x{2EE5D}\x{31350}-\x{323AF})";
constexpr char kNewNumbers[] =
    R"(\x{10D40}-\x{10D49}\x{116D0}-\x{116E3}\x{11BF0}-\x{11BF9}\x{11F50}-\x{11F59}\x{16130}-\x{16139})"
    R"(\x{16D70}-\x{16D79}\x{1CCF0}-\x{1CCF9}\x{1D2C0}-\x{1D2D3}\x{1E4F0}-\x{1E4F9}\x{1E5F1}-\x{1E5FA})";

// One pass over the pattern, outside a class or in one.
class Rewriter {
 public:
  explicit Rewriter(const std::string& pattern) : pattern_(pattern) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        inside_class(c);
      } else {
        outside_class(c);
      }
    }
    if (in_class_) fail("[ without ]");
    return std::move(result_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw DataError("the pattern \"" + pattern_ + "\" has " + what +
                    ", which is not supported (\\p{…}, \\s, \\d, \\r, \\n, \\t, \\x{…}, classes, "
                    "groups, look-around and quantifiers are)");
  }
  std::string_view rest() const { return std::string_view(pattern_).substr(at_); }
  void copy(size_t count) {
    result_ += rest().substr(0, count);
    at_ += count;
  }
  void put(const std::string& text, size_t instead_of) {
    result_ += text;
    at_ += instead_of;
  }
  // A set of characters, where a class stands around it or where none does.
  std::string set_of(const std::string& members) const {
    return in_class_ ? members : "[" + members + "]";
  }

  void escape() {
    const char c = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '\0';
    if (c == 'p' || c == 'P') return property();
    if (c == 's') return put(set_of(kSpace), 2);
    if (c == 'S') return put(set_of(kNoSpace), 2);
    if (c == 'd') return put(set_of(std::string("\\p{Nd}")), 2);
    if (c == 'D') return put(set_of(std::string("\\P{Nd}")), 2);
    if (c == 'x' && rest().starts_with("\\x{")) return copy(rest().find('}') + 1);
    const bool is_mark = std::ispunct(static_cast<unsigned char>(c)) != 0;
    if (is_mark || (c != '\0' && std::strchr("rntf", c) != nullptr)) return copy(2);
    fail(std::string("\\") + c);
  }

  void property() {
    const size_t end = rest().find('}');
    if (!rest().substr(2).starts_with('{') || end == std::string_view::npos) fail("\\p without {}");
    const std::string name(rest().substr(3, end - 3));
    const char* added = name == "L" ? kNewLetters : name == "N" ? kNewNumbers : nullptr;
    const bool negated = pattern_[at_ + 1] == 'P';
    if (added == nullptr) return copy(end + 1);
    if (negated && in_class_) fail("\\P{" + name + "} in a class");
    put(negated ? "[^\\p{" + name + "}" + added + "]" : set_of("\\p{" + name + "}" + added),
        end + 1);
  }

  void inside_class(char c) {
    if (c == '[') fail("[ in a class");  // a nested set there, a letter here
    if (rest().starts_with("&&")) fail("&& in a class");
    if (c == ']') in_class_ = false;
    copy(1);
  }

  void outside_class(char c) {
    if (c == '.' || c == '^' || c == '$') fail(std::string(1, c) + " outside a class");
    if (c == '(') return group();
    if (c == '{') return repeat();
    in_class_ = c == '[';
    copy(in_class_ && rest().starts_with("[^") ? 2 : 1);
    if (in_class_ && rest().starts_with("]")) fail("an empty class");
  }

  void group() {
    constexpr std::array<std::string_view, 9> kKnown = {"(?:", "(?=",  "(?!",   "(?<=", "(?<!",
                                                        "(?>", "(?i:", "(?-i:", "(?i)"};
    if (!rest().starts_with("(?")) return copy(1);
    for (const std::string_view known : kKnown)
      if (rest().starts_with(known)) return copy(known.size());
    fail("the group " + std::string(rest().substr(0, 4)));
  }

  // {n,m} followed by + or ? repeats the repetition in Oniguruma; PCRE2 reads it as possessive,
  // lazy.
  void repeat() {
    const size_t end = rest().find('}');
    const std::string_view counts = rest().substr(1, end == std::string_view::npos ? 0 : end - 1);
    if (counts.empty() || counts.find_first_not_of("0123456789,") != std::string_view::npos ||
        counts[0] == ',')
      fail("{ that is no {n}, {n,} or {n,m}");
    const std::string_view after = rest().substr(end + 1);
    if (after.starts_with('+') || after.starts_with('?'))
      fail("{" + std::string(counts) + "}" + after[0]);
    copy(end + 1);
  }

  const std::string& pattern_;
  std::string result_;
  size_t at_ = 0;
  bool in_class_ = false;
};

}  // namespace

std::string pcre2_pattern(const std::string& oniguruma) { return Rewriter(oniguruma).run(); }

}  // namespace espalier
