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

int64_t windowed_sample_at(uint64_t seed, int64_t position, int64_t dataset_size, int64_t window) {
  if (window <= 0 || window >= dataset_size) return sample_at(seed, position, dataset_size);
  const int64_t windows = dataset_size / window;  // whole ones
  const int64_t epoch = position / dataset_size, inside = position % dataset_size;
  const int64_t turn = inside / window;
  const bool is_last = turn >= windows;
  const int64_t chosen = is_last ? windows : sample_at(seed, epoch * windows + turn, windows);
  const int64_t length = is_last ? dataset_size - windows * window : window;
  // A stream of its own for every window of every epoch.
  const uint64_t of_window = combine_streams(
      seed, combine_streams(static_cast<uint64_t>(epoch), static_cast<uint64_t>(chosen) + 1));
  return chosen * window + sample_at(of_window, inside - turn * window, length);
}

}  // namespace espalier
