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

}  // namespace espalier
