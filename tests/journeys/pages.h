#pragma once

#include <string>
#include <vector>

#include "data/test_files.h"

namespace espalier {

// The blocks of one language in a page, in their order: tests do what the page says, word for word.
inline std::vector<std::string> blocks_of_page(const std::string& page,
                                               const std::string& language) {
  const std::string text = read_file(source_path(page));
  std::vector<std::string> found;
  const std::string opening = "```" + language + "\n";
  for (size_t at = text.find(opening); at != std::string::npos; at = text.find(opening, at)) {
    at += opening.size();
    found.push_back(text.substr(at, text.find("```", at) - at));
  }
  return found;
}

}  // namespace espalier
