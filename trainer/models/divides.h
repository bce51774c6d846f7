#pragma once

#include <cstdint>
#include <string>

#include "trainer/errors.h"

namespace espalier {

// Heads share a width in equal parts, even ones where positions turn pairs of channels (rotary).
// Throws ConfigError with the nearest right counts; `part` and `whole` are settings below `where`.
inline void check_divides(const std::string& where, const std::string& whole, int64_t size,
                          const std::string& part, int64_t count, bool into_even_parts = false) {
  const auto fits = [&](int64_t n) {
    return n > 0 && size % n == 0 && (!into_even_parts || size / n % 2 == 0);
  };
  if (fits(count)) return;
  std::string right;
  const auto name = [&](int64_t n) { right += (right.empty() ? "" : " or ") + std::to_string(n); };
  int64_t below = count - 1, above = count + 1;
  while (below > 0 && !fits(below)) --below;
  while (above <= size && !fits(above)) ++above;
  if (below > 0) name(below);
  if (above <= size) name(above);
  throw ConfigError(
      where + "." + part + " = " + std::to_string(count) + " does not divide " + where + "." +
      whole + " = " + std::to_string(size) + (into_even_parts ? " into even parts" : "") +
      (right.empty() ? "; choose another " + whole : "; nearest right counts: " + right));
}

}  // namespace espalier
