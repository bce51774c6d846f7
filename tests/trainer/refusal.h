#pragma once

#include <string>

#include "trainer/errors.h"

namespace espalier {

// What a call refuses with; "" when it does not.
template <class Call>
std::string refusal(const Call& call) {
  try {
    call();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

}  // namespace espalier
