#include "models/kernels/cpu_features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace espalier::kernels {
namespace {

#if defined(__x86_64__)
// Of leaf 7 of cpuid, subleaf 1 register eax and subleaf 0 register edx.
constexpr unsigned kAvx512Bf16 = 1U << 5;
constexpr unsigned kAmxBf16 = 1U << 22;

bool has_bf16_products() {
  // Asks the operating system too whether it keeps the registers.
  if (!__builtin_cpu_supports("avx512f")) return false;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  const unsigned subleaves = eax;
  if ((edx & kAmxBf16) != 0) return true;
  if (subleaves < 1 || __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) == 0) return false;
  return (eax & kAvx512Bf16) != 0;
}
#else
bool has_bf16_products() { return false; }
#endif

}  // namespace

bool bf16_is_fast() {
  static const bool is_fast = has_bf16_products();
  return is_fast;
}

}  // namespace espalier::kernels
