#pragma once

#include <stdexcept>
#include <string>

namespace espalier {

// Input data that cannot be used: missing, truncated, of another format, empty. The message says
// what is wrong, in which file (and member), and what to do. Commands map it to exit code 64.
class DataError : public std::runtime_error {
 public:
  explicit DataError(const std::string& message) : std::runtime_error(message) {}
};

}  // namespace espalier
