#include "trainer/masks/mask_expression.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <stdexcept>

namespace espalier {
namespace {

// Far above any mask, far below where products leave 64 bits.
constexpr int64_t kLargest = 1 << 30;

class Expression {
 public:
  Expression(const std::string& text, const std::map<std::string, int64_t>& settings)
      : text_(text), settings_(settings) {}

  int64_t evaluate() {
    int64_t sum = product();
    while (!at_end()) {
      const char sign = text_[at_++];
      if (sign != '+' && sign != '-')
        refuse(std::string("expected + - or * before \"") + sign + '"');
      const int64_t more = product();
      sum = bounded(sign == '+' ? sum + more : sum - more);
    }
    return sum;
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const {
    throw std::invalid_argument("\"" + text_ + "\": " + why);
  }

  int64_t bounded(int64_t value) const {
    if (value > kLargest || value < -kLargest) refuse("leaves the numbers up to 2^30");
    return value;
  }

  bool at_end() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    return at_ == text_.size();
  }

  int64_t product() {
    int64_t value = operand();
    while (!at_end() && text_[at_] == '*') {
      ++at_;
      value = bounded(value * operand());
    }
    return value;
  }

  int64_t operand() {
    if (at_end()) refuse("ends where a number or a setting is expected");
    const size_t begin = at_;
    const auto is_part = [](unsigned char c) {
      return std::isalnum(c) != 0 || c == '_' || c == '.';
    };
    while (at_ < text_.size() && is_part(static_cast<unsigned char>(text_[at_]))) ++at_;
    const std::string word = text_.substr(begin, at_ - begin);
    if (word.empty()) refuse(std::string("\"") + text_[at_] + "\" is no number or setting");
    int64_t number = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (error == std::errc() && end == word.data() + word.size()) return bounded(number);
    const auto found = settings_.find(word);
    if (found == settings_.end())
      refuse("\"" + word + "\" is no number and no setting of this file");
    return bounded(found->second);
  }

  const std::string& text_;
  const std::map<std::string, int64_t>& settings_;
  size_t at_ = 0;
};

}  // namespace

int64_t evaluate_expression(const std::string& text,
                            const std::map<std::string, int64_t>& settings) {
  return Expression(text, settings).evaluate();
}

}  // namespace espalier
