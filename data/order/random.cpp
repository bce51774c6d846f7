#include "data/order/random.h"

#include <cmath>
#include <numbers>

namespace espalier {

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  constexpr uint64_t kMultiply0 = 0xD2511F53;
  constexpr uint64_t kMultiply1 = 0xCD9E8D57;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = kMultiply0 * counter[0];
    const uint64_t product1 = kMultiply1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

uint64_t counter_random(uint64_t seed, uint64_t stream, uint64_t counter) {
  const auto low = [](uint64_t value) { return static_cast<uint32_t>(value); };
  const auto high = [](uint64_t value) { return static_cast<uint32_t>(value >> 32); };
  const auto words =
      philox({low(counter), high(counter), low(stream), high(stream)}, {low(seed), high(seed)});
  return uint64_t{words[1]} << 32 | words[0];
}

double CounterRng::uniform() { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }

double CounterRng::normal() {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));  // 1 - u is never 0
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

uint64_t CounterRng::below(uint64_t bound) {
  // Draws from the incomplete last multiple of `bound` are thrown away, so that no value is
  // favoured.
  const uint64_t reject_below = (0 - bound) % bound;
  uint64_t value = bits();
  while (value < reject_below) value = bits();
  return value % bound;
}

uint64_t combine_streams(uint64_t first, uint64_t second) {
  return counter_random(first, second, 0x636f6d62696e65);
}

}  // namespace espalier
