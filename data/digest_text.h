#pragma once

#include <array>
#include <cstdio>
#include <string>

#include <xxhash.h>

namespace espalier {

// 32 hexadecimal digits.
inline std::string digest_text(const XXH128_hash_t& digest) {
  std::array<char, 33> text{};
  std::snprintf(text.data(), text.size(), "%016llx%016llx",
                static_cast<unsigned long long>(digest.high64),
                static_cast<unsigned long long>(digest.low64));
  return text.data();
}

}  // namespace espalier
