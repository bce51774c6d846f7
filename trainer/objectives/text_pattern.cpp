#include "trainer/objectives/text_pattern.h"

#include "trainer/errors.h"

namespace espalier {

std::vector<std::string> fields_of_pattern(const std::string& pattern, const std::string& where) {
  std::vector<std::string> fields;
  for (size_t at = pattern.find_first_of("{}"); at != std::string::npos;
       at = pattern.find_first_of("{}", at + 1)) {
    const size_t end = pattern.find_first_of("{}", at + 1);
    if (pattern[at] == '}' || end == std::string::npos || pattern[end] == '{' || end == at + 1) {
      throw ConfigError(where + " = \"" + pattern +
                        "\": { and } stand around the name of a field, as in \"what colour is the "
                        "{shape}?\"");
    }
    fields.push_back(pattern.substr(at + 1, end - at - 1));
    at = end;
  }
  return fields;
}

std::string fill_pattern(const std::string& pattern, const Sample& sample) {
  std::string text;
  size_t begin = 0;
  for (size_t at; (at = pattern.find('{', begin)) != std::string::npos;) {
    const size_t end = pattern.find('}', at);
    if (end == std::string::npos) break;
    text += pattern.substr(begin, at - begin) + sample.text(pattern.substr(at + 1, end - at - 1));
    begin = end + 1;
  }
  return text + pattern.substr(begin);
}

}  // namespace espalier
