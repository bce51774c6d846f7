#include "launch/status/file_tail.h"

#include <filesystem>
#include <fstream>

namespace espalier {

std::vector<std::string> FileTail::lines() {
  std::error_code none;
  const auto size = std::filesystem::file_size(path_, none);
  if (none) return {};
  if (static_cast<int64_t>(size) < at_) at_ = 0;
  if (static_cast<int64_t>(size) == at_) return {};
  std::ifstream file(path_, std::ios::binary);
  file.seekg(at_);
  std::string text(static_cast<size_t>(size) - static_cast<size_t>(at_), '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  std::vector<std::string> found;
  size_t begin = 0;
  for (size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    found.push_back(text.substr(begin, end - begin));
  }
  at_ += static_cast<int64_t>(begin);
  return found;
}

}  // namespace espalier
