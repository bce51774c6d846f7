// docs/troubleshooting.md quotes messages: they are the program's own.

#include <algorithm>
#include <filesystem>
#include <sstream>

#include <gtest/gtest.h>

#include "data/test_files.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

// All sources as one text, in which a literal that is written in pieces is whole.
std::string all_sources() {
  std::string text;
  for (const char* folder : {"comm", "data", "models", "trainer", "launch"}) {
    for (const auto& entry : fs::recursive_directory_iterator(source_path(folder))) {
      const std::string extension = entry.path().extension().string();
      if (extension == ".cpp" || extension == ".h") text += read_file(entry.path().string());
    }
  }
  std::string joined;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == '"' || text[i + 1] == '\\')) {
      joined += text[++i];
      continue;
    }
    if (text[i] == '"') {
      const size_t next = text.find_first_not_of(" \n+", i + 1);  // "a" "b", and "a" + "b"
      if (next != std::string::npos && text[next] == '"' && next > i + 1) {
        i = next;
        continue;
      }
    }
    joined += text[i];
  }
  return joined;
}

// The pieces of a quoted message between what differs.
std::vector<std::string> pieces_of(const std::string& message) {
  const std::string varies = "\xe2\x80\xa6";  // …
  std::vector<std::string> pieces;
  for (size_t at = 0; at <= message.size();) {
    const size_t end = std::min(message.find(varies, at), message.size());
    if (end > at) pieces.push_back(message.substr(at, end - at));
    at = end + varies.size();
  }
  return pieces;
}

TEST(Troubleshooting, QuotesWhatTheProgramSays) {
  const std::string sources = all_sources();
  std::istringstream page(read_file(source_path("docs/troubleshooting.md")));
  int quoted = 0;
  for (std::string line; std::getline(page, line);) {
    if (!line.starts_with("### ")) continue;
    const size_t begin = line.find_first_not_of("` ", 4), end = line.find_last_not_of("` ");
    ASSERT_TRUE(line.starts_with("### `") && line.ends_with("`") && begin < end) << line;
    const std::string message = line.substr(begin, end + 1 - begin);
    ++quoted;
    size_t longest = 0;
    for (const std::string& piece : pieces_of(message)) {
      EXPECT_NE(sources.find(piece), std::string::npos)
          << "no source has \"" << piece << "\" of: " << message;
      longest = std::max(longest, piece.size());
    }
    EXPECT_GE(longest, 5U) << "says nothing: " << message;
  }
  EXPECT_GT(quoted, 30);
}

}  // namespace
}  // namespace espalier
