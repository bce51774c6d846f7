#pragma once

#include <stdexcept>

namespace espalier {

// A weight file that cannot be used: missing, damaged, or made for another model. The message
// names the file, what is wrong with it, and what to do. The program exits with 64.
class WeightsError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace espalier
