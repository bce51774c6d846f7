#include <glob.h>

#include <algorithm>
#include <sstream>
#include <string_view>

#include "data/errors.h"
#include "data/sources/dataset.h"

namespace espalier {
namespace {

constexpr int64_t kMaxShards = 1000000;

bool is_number(std::string_view text) {
  return !text.empty() && text.size() <= 12 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Expands the first {00000..00012}; the width of the first number is kept.
std::vector<std::string> expand_range(const std::string& pattern) {
  const size_t open = pattern.find('{');
  const size_t dots = pattern.find("..", open == std::string::npos ? 0 : open);
  const size_t close = pattern.find('}', dots == std::string::npos ? 0 : dots);
  if (open == std::string::npos || dots == std::string::npos || close == std::string::npos)
    return {pattern};
  const std::string first = pattern.substr(open + 1, dots - open - 1);
  const std::string last = pattern.substr(dots + 2, close - dots - 2);
  if (!is_number(first) || !is_number(last)) return {pattern};
  const int64_t begin = std::stoll(first);
  const int64_t end = std::stoll(last);
  if (end < begin || end - begin >= kMaxShards)
    throw DataError("range {" + first + ".." + last + "} in " + pattern +
                    " counts down or is too long");
  std::vector<std::string> paths;
  for (int64_t number = begin; number <= end; ++number) {
    std::string digits = std::to_string(number);
    if (digits.size() < first.size()) digits.insert(0, first.size() - digits.size(), '0');
    paths.push_back(pattern.substr(0, open) + digits + pattern.substr(close + 1));
  }
  return paths;
}

// Expands every {a,b} and {0..9}, also one inside another pattern's results.
std::vector<std::string> expand_braces(const std::string& pattern) {
  std::vector<std::string> done, todo = {pattern};
  while (!todo.empty()) {
    const std::string next = std::move(todo.back());
    todo.pop_back();
    const size_t open = next.find('{');
    const size_t close = next.find('}', open == std::string::npos ? 0 : open);
    std::vector<std::string> expanded;
    if (open != std::string::npos && close != std::string::npos) {
      const std::string inside = next.substr(open + 1, close - open - 1);
      if (inside.find(',') != std::string::npos) {
        std::istringstream list(inside);
        for (std::string item; std::getline(list, item, ',');) {
          expanded.push_back(next.substr(0, open) + item + next.substr(close + 1));
        }
      } else {
        expanded = expand_range(next);
      }
    }
    if (expanded.empty() || expanded == std::vector{next}) {
      done.push_back(next);
    } else {
      todo.insert(todo.end(), expanded.rbegin(), expanded.rend());
    }
    if (std::ssize(done) + std::ssize(todo) > kMaxShards) {
      throw DataError("the braces of " + pattern + " stand for more than a million paths");
    }
  }
  return done;
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

std::vector<std::string> expand_paths(const std::vector<std::string>& patterns) {
  std::vector<std::string> paths;
  for (const std::string& pattern : patterns) {
    for (const std::string& ranged : expand_braces(pattern)) {
      const auto matched = expand_wildcards(ranged);
      paths.insert(paths.end(), matched.begin(), matched.end());
    }
  }
  return paths;
}

}  // namespace espalier
