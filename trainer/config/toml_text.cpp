#include "trainer/config/toml_text.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "trainer/errors.h"

namespace espalier {
namespace {

// Values nest 256 deep at most (toml++ sees to that); a key of this many parts at every depth still
// leaves most of a stack of 8 MiB.
constexpr int kMostParts = 32;

// Past a string that begins at `at`, in one of the four ways TOML has; to the end when it has none.
size_t after_string(std::string_view text, size_t at) {
  const char quote = text[at];
  const std::string whole(3, quote);
  const bool is_long = text.substr(at, 3) == whole;
  const std::string_view end = is_long ? std::string_view(whole) : text.substr(at, 1);
  for (at += end.size(); at < text.size(); ++at) {
    if (quote == '"' && text[at] == '\\') {
      ++at;
    } else if (text.substr(at, end.size()) == end) {
      return at + end.size();
    } else if (!is_long && text[at] == '\n') {
      return at;
    }
  }
  return text.size();
}

constexpr size_t kMostBytes = 4 << 20;

}  // namespace

std::string read_toml_text(const std::string& path) {
  std::error_code none;
  if (std::filesystem::is_directory(path, none)) {
    throw ConfigError("config " + path + ": that is a folder; name the TOML file in it");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) throw ConfigError("config " + path + ": no such file, or it cannot be read");
  std::string text(kMostBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.empty()) throw ConfigError("config " + path + ": it is empty");
  if (text.size() > kMostBytes) {
    throw ConfigError("config " + path + ": it has more than 4 MiB, which no config has");
  }
  refuse_deep_keys(text, path);
  return text;
}

void refuse_deep_keys(const std::string& text, const std::string& where) {
  int parts = 0;
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (c == '"' || c == '\'') {
      at = after_string(text, at);
      continue;
    }
    if (c == '#') {
      at = std::min(text.find('\n', at), text.size());
      continue;
    }
    const bool is_of_key =
        std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == ' ';
    if (c == '.') {
      ++parts;
    } else if (!is_of_key) {
      parts = 0;
    }
    if (parts >= kMostParts) {
      const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<long>(at), '\n');
      throw ConfigError(where + ":" + std::to_string(line) + ": a key of more than " +
                        std::to_string(kMostParts) +
                        " parts between dots; no setting lies so deep");
    }
    ++at;
  }
}

}  // namespace espalier
