#include <glob.h>

#include <regex>

#include "data/errors.h"
#include "data/shard_dataset.h"

namespace espalier {
namespace {

constexpr int64_t kMaxShards = 1000000;

// Expands the first {00000..00012} of a pattern; the width of the first number is kept.
std::vector<std::string> expand_range(const std::string& pattern) {
  static const std::regex kRange(R"(\{(\d{1,12})\.\.(\d{1,12})\})");
  std::smatch match;
  if (!std::regex_search(pattern, match, kRange)) return {pattern};
  const int64_t first = std::stoll(match[1]);
  const int64_t last = std::stoll(match[2]);
  if (last < first || last - first >= kMaxShards)
    throw DataError("shard range " + match[0].str() + " in " + pattern +
                    " counts down or is too long");
  std::vector<std::string> paths;
  for (int64_t number = first; number <= last; ++number) {
    std::string digits = std::to_string(number);
    digits.insert(0, std::max<int64_t>(0, match[1].length() - std::ssize(digits)), '0');
    paths.push_back(match.prefix().str() + digits + match.suffix().str());
  }
  return paths;
}

std::vector<std::string> expand_wildcards(const std::string& pattern) {
  // Without wildcards the name is taken as it is, and opening it says what is wrong with it.
  if (pattern.find_first_of("*?[") == std::string::npos) return {pattern};
  glob_t matches{};
  const int status = glob(pattern.c_str(), 0, nullptr, &matches);
  std::vector<std::string> paths(matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
  globfree(&matches);
  if (status != 0 || paths.empty())
    throw DataError("no file matches " + pattern + ". Check the path and the working directory.");
  return paths;
}

}  // namespace

std::vector<std::string> expand_shard_paths(const std::vector<std::string>& patterns) {
  std::vector<std::string> paths;
  for (const std::string& pattern : patterns) {
    for (const std::string& ranged : expand_range(pattern)) {
      const auto matched = expand_wildcards(ranged);
      paths.insert(paths.end(), matched.begin(), matched.end());
    }
  }
  return paths;
}

}  // namespace espalier
