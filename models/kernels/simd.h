#pragma once

#include <cstdint>
#include <cstring>

// Sixteen floats at a time, for the CPU kernels of this folder. The compiler lowers a vector to
// whatever the clone of the calling function may use: one AVX-512 register, two of AVX2, or four of
// SSE2, so one source serves every x86-64 machine and, as plain vector code, any other.
//
// ESPALIER_CLONES marks a kernel to be compiled for each of these; the loader picks one. Sanitizers
// crash on the resolvers that this needs, so their builds have the plain version only. Vectors
// never cross a call that is not inlined, so the sources are compiled with -Wno-psabi.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define ESPALIER_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define ESPALIER_CLONES
#endif
#define ESPALIER_INLINE inline __attribute__((always_inline))

namespace espalier::simd {

constexpr int64_t kLanes = 16;
using Floats = float __attribute__((vector_size(64)));
using Ints = int32_t __attribute__((vector_size(64)));
using Words = uint32_t __attribute__((vector_size(64)));
using Halves = uint16_t __attribute__((vector_size(32)));

// A bfloat16 is the upper half of a float. Own type: the kernels see no torch header.
struct Bfloat16 {
  uint16_t bits;
};

ESPALIER_INLINE int64_t round_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

ESPALIER_INLINE Floats broadcast(float x) { return x - Floats{}; }

ESPALIER_INLINE Floats load(const float* p) {
  Floats x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

ESPALIER_INLINE Floats load(const Bfloat16* p) {
  Halves half;
  std::memcpy(&half, p, sizeof half);
  const Words bits = __builtin_convertvector(half, Words) << 16;
  Floats x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

ESPALIER_INLINE void store(float* p, Floats x) { std::memcpy(p, &x, sizeof x); }

// Rounds to nearest, ties to even. A NaN stays one: its payload's top bit is kept by torch's NaNs.
ESPALIER_INLINE void store(Bfloat16* p, Floats x) {
  Words bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Halves half = __builtin_convertvector(bits, Halves);
  std::memcpy(p, &half, sizeof half);
}

ESPALIER_INLINE float load_one(const float* p) { return *p; }
ESPALIER_INLINE float load_one(const Bfloat16* p) {
  const uint32_t bits = static_cast<uint32_t>(p->bits) << 16;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
ESPALIER_INLINE void store_one(float* p, float x) { *p = x; }
ESPALIER_INLINE void store_one(Bfloat16* p, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  p->bits = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

ESPALIER_INLINE float sum(Floats x) {
  float total = 0;
  for (int i = 0; i < kLanes; ++i) total += x[i];
  return total;
}

ESPALIER_INLINE Floats max(Floats a, Floats b) { return a > b ? a : b; }

// Rows become columns. In each of four rounds half of the vectors exchange every second group of
// lanes with the vector that many places on.
template <int kStep>
ESPALIER_INLINE void exchange(Floats* rows) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if ((i & kStep) != 0) continue;
    Ints low, high;
#pragma GCC unroll 16
    for (int lane = 0; lane < kLanes; ++lane) {
      const bool is_other = (lane & kStep) != 0;
      low[lane] = is_other ? kLanes + lane - kStep : lane;
      high[lane] = is_other ? kLanes + lane : lane + kStep;
    }
    const Floats a = rows[i];
    const Floats b = rows[i + kStep];
    rows[i] = __builtin_shuffle(a, b, low);
    rows[i + kStep] = __builtin_shuffle(a, b, high);
  }
}

ESPALIER_INLINE void transpose_16x16(Floats* rows) {
  exchange<1>(rows);
  exchange<2>(rows);
  exchange<4>(rows);
  exchange<8>(rows);
}

// e^x to about 2 units in the last place. x is clamped to +-87, where floats end; NaN stays NaN.
ESPALIER_INLINE Floats exp(Floats x) {
  x = x > 87.0f ? broadcast(87.0f) : x;
  x = x < -87.0f ? broadcast(-87.0f) : x;
  // Adding 1.5 * 2^23 leaves the nearest whole number in the low bits.
  const Floats shifted = x * 1.44269504f + 12582912.0f;
  const Floats whole = shifted - 12582912.0f;
  const Floats r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Ints exponent = (__builtin_convertvector(whole, Ints) + 127) << 23;
  Floats scale;
  std::memcpy(&scale, &exponent, sizeof scale);
  return p * scale;
}

}  // namespace espalier::simd
