#pragma once

#include <fnmatch.h>

#include <algorithm>
#include <string>
#include <vector>

namespace espalier {

// As a shell matches file names: "trunk.*", "*embedding*".
inline bool fits_pattern(const std::string& pattern, const std::string& name) {
  return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

inline bool fits_any_pattern(const std::vector<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) { return fits_pattern(pattern, name); });
}

// A pattern fits a parameter by its name, or by its group's name, a dot and its name. `name` as in
// checkpoints: of a model's parameter what follows "model/NAME/" counts.
inline bool fits_parameter(const std::string& pattern, const std::string& group,
                           const std::string& name) {
  const std::string own =
      name.starts_with("model/") ? name.substr(name.find('/', sizeof("model/") - 1) + 1) : name;
  return fits_pattern(pattern, own) || fits_pattern(pattern, group + "." + own);
}

}  // namespace espalier
