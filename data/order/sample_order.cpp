#include "data/order/sample_order.h"

#include <bit>
#include <stdexcept>
#include <string>

#include "data/order/random.h"

namespace espalier {
namespace {

// A permutation of 0 .. 4^half_bits - 1: four Feistel rounds keyed by (seed, epoch).
uint64_t permute(uint64_t value, int half_bits, uint64_t seed, uint64_t epoch) {
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  uint64_t left = value >> half_bits;
  uint64_t right = value & mask;
  for (uint64_t round = 0; round < 4; ++round) {
    const uint64_t mixed = counter_random(seed, epoch, right << 2 | round) & mask;
    const uint64_t next = left ^ mixed;
    left = right;
    right = next;
  }
  return left << half_bits | right;
}

}  // namespace

int64_t sample_at(uint64_t seed, int64_t position, int64_t dataset_size) {
  if (position < 0 || dataset_size < 1)
    throw std::invalid_argument("sample_at: position " + std::to_string(position) +
                                ", dataset_size " + std::to_string(dataset_size));
  const auto size = static_cast<uint64_t>(dataset_size);
  const auto epoch = static_cast<uint64_t>(position) / size;
  const auto bits = static_cast<int>(std::bit_width(size - 1));
  const int half_bits = (bits + 1) / 2;

  // Cycle walking: the range is at most 4 times the set, so about two steps on average, and the
  // walk from an index inside the set always comes back to the set.
  uint64_t value = static_cast<uint64_t>(position) % size;
  do {
    value = permute(value, half_bits, seed, epoch);
  } while (value >= size);
  return static_cast<int64_t>(value);
}

}  // namespace espalier
