#include "comm/collectives/combine.h"

#include <bit>

// Compiled for each width of vectors; the program takes what the processor has. Sanitizers do not
// survive the choice, which is made before they have started.
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define ESPALIER_FOR_EACH_VECTOR_WIDTH \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define ESPALIER_FOR_EACH_VECTOR_WIDTH
#endif

namespace espalier::combine {
namespace {

struct Sum {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(a + b);
  }
};
struct Max {
  template <class T>
  static T apply(T a, T b) {
    return a < b || b != b ? b : a;
  }
};
struct Min {
  template <class T>
  static T apply(T a, T b) {
    return b < a || b != b ? b : a;
  }
};

// A type of its own, lest it be taken for an integer.
struct BFloat16 {
  uint16_t bits;
};

float widen(BFloat16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}

// To the nearest, ties to even.
BFloat16 narrow(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  const uint32_t result = value != value ? 0x7fc0U : rounded;
  return {static_cast<uint16_t>(result)};
}

template <class Op, class T>
inline __attribute__((always_inline)) void combine_all(void* into, const void* from,
                                                       int64_t count) {
  auto* __restrict to = static_cast<T*>(into);
  const auto* __restrict add = static_cast<const T*>(from);
  for (int64_t i = 0; i < count; ++i) {
    if constexpr (std::is_same_v<T, BFloat16>) {
      to[i] = narrow(Op::apply(widen(to[i]), widen(add[i])));
    } else {
      to[i] = Op::apply(to[i], add[i]);
    }
  }
}

// A template cannot be cloned, so each has a name.
#define ESPALIER_COMBINE(name, Operation, T)                                              \
  ESPALIER_FOR_EACH_VECTOR_WIDTH void name(void* into, const void* from, int64_t count) { \
    combine_all<Operation, T>(into, from, count);                                         \
  }
ESPALIER_COMBINE(sum_float, Sum, float)
ESPALIER_COMBINE(sum_double, Sum, double)
ESPALIER_COMBINE(sum_bfloat16, Sum, BFloat16)

template <class Op, class T>
void plain(void* into, const void* from, int64_t count) {
  combine_all<Op, T>(into, from, count);
}

template <class Op>
Function others(Type type) {
  switch (type) {
    case Type::kFloat:
      return plain<Op, float>;
    case Type::kDouble:
      return plain<Op, double>;
    case Type::kBFloat16:
      return plain<Op, BFloat16>;
    case Type::kInt32:
      return plain<Op, int32_t>;
    case Type::kInt64:
      return plain<Op, int64_t>;
    case Type::kUint8:
      return plain<Op, uint8_t>;
  }
  return nullptr;
}

}  // namespace

// Sums of gradients are what there is much of.
Function function_of(Type type, Op op) {
  if (op == Op::kMax) return others<Max>(type);
  if (op == Op::kMin) return others<Min>(type);
  if (type == Type::kFloat) return sum_float;
  if (type == Type::kDouble) return sum_double;
  if (type == Type::kBFloat16) return sum_bfloat16;
  return others<Sum>(type);
}

}  // namespace espalier::combine
