#include "trainer/config/nearest.h"

#include <algorithm>
#include <cctype>

#include "trainer/config/settings.h"

namespace espalier {
namespace {

// As it was typed, but for case and for what joins words.
std::string plain(std::string_view text) {
  std::string out;
  for (const unsigned char c : text) {
    if (c != '_' && c != '-') out += static_cast<char>(std::tolower(c));
  }
  return out;
}

std::string_view last_part(std::string_view key) { return key.substr(key.rfind('.') + 1); }

size_t common_prefix(std::string_view a, std::string_view b) {
  const auto [x, y] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<size_t>(x - a.begin());
}

// Keys that differ in some parts only: "*" stands where they do. "" when they are of several
// lengths.
std::string pattern_of(const std::vector<std::string>& keys) {
  std::string pattern;
  std::vector<std::string_view> rests(keys.begin(), keys.end());
  while (true) {
    const size_t dot = rests[0].find('.');
    const auto part = rests[0].substr(0, dot);
    bool is_same = true;
    for (std::string_view& rest : rests) {
      const size_t end = rest.find('.');
      if ((end == std::string_view::npos) != (dot == std::string_view::npos)) return "";
      is_same = is_same && rest.substr(0, end) == part;
      rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    }
    pattern += is_same ? std::string(part) : "*";
    if (dot == std::string_view::npos) return pattern;
    pattern += '.';
  }
}

// Settings that the last part of the key names: as it is called here, or elsewhere.
std::vector<std::string> named_by(const std::string& key, const std::vector<Setting>& settings) {
  const std::string asked = plain(last_part(key));
  std::vector<std::string> called, also;
  for (const Setting& setting : settings) {
    if (plain(last_part(setting.key)) == asked) called.push_back(setting.key);
    const auto& names = setting.spec.also;
    if (std::any_of(names.begin(), names.end(), [&](const auto& n) { return plain(n) == asked; })) {
      also.push_back(setting.key);
    }
  }
  return called.empty() ? also : called;
}

// Of settings with the same name those in the tables that the key begins with: stage.codes.lr is
// about that stage.
std::vector<std::string> nearest_tables(const std::string& key, std::vector<std::string> found) {
  const auto tables = std::string_view(key).substr(0, key.size() - last_part(key).size());
  size_t most = 0;
  for (const auto& each : found) most = std::max(most, common_prefix(tables, each));
  std::erase_if(found, [&](const auto& each) { return common_prefix(tables, each) < most; });
  return found;
}

}  // namespace

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

std::string nearest_word(const std::string& word, const std::vector<std::string>& words) {
  std::string best;
  size_t best_distance = std::max<size_t>(3, word.size() / 2);  // farther is no help
  for (const std::string& each : words) {
    const bool is_begun = word.size() >= 3 && each.starts_with(word);
    const size_t distance = is_begun ? 1 : edit_distance(word, each);
    if (distance < best_distance) {
      best_distance = distance;
      best = each;
    }
  }
  return best;
}

std::string Settings::nearest_key(const std::string& key) const {
  constexpr size_t kLongest = 256;  // no setting's is; and each letter costs a row of numbers
  if (key.size() > kLongest) return "";
  const std::vector<std::string> named = named_by(key, settings_);
  const std::vector<std::string> nearest = nearest_tables(key, named);
  if (!nearest.empty()) {
    const std::string pattern = pattern_of(nearest);
    return pattern.empty() ? nearest.front() : pattern;
  }
  std::string best;
  size_t best_distance = std::max<size_t>(3, key.size() / 3);  // farther is no help
  for (const Setting& setting : settings_) {
    // A key given without its table is as good as one with a typing error.
    for (size_t start = 0; start != std::string::npos;) {
      const auto tail = std::string_view(setting.key).substr(start);
      const size_t distance = edit_distance(key, tail) + (start > 0 ? 1 : 0);
      if (distance < best_distance) {
        best_distance = distance;
        best = setting.key;
      }
      const size_t dot = setting.key.find('.', start);
      start = dot == std::string::npos ? dot : dot + 1;
    }
  }
  return best;
}

}  // namespace espalier
