#pragma once

#include <array>
#include <cstdint>

namespace espalier {

// Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// 64 random bits that depend on nothing but the three numbers.
uint64_t counter_random(uint64_t seed, uint64_t stream, uint64_t counter);

// Draws counter_random(seed, stream, 0), (.., 1), ... Needs no saved state: make one where the
// draws are needed, with a stream that names their purpose, for example step * slots + slot.
class CounterRng {
 public:
  CounterRng(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}

  uint64_t bits() { return counter_random(seed_, stream_, counter_++); }
  double uniform();  // [0, 1), 53 bits
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  double normal();                 // mean 0, variance 1; two draws each
  uint64_t below(uint64_t bound);  // 0 .. bound-1, unbiased; bound > 0

 private:
  uint64_t seed_;
  uint64_t stream_;
  uint64_t counter_ = 0;
};

// A stream number out of several, for CounterRng: mixes them so that neighbours do not collide.
uint64_t combine_streams(uint64_t first, uint64_t second);

}  // namespace espalier
