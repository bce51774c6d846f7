#include "models/kernels/cpu_features.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include <torch/torch.h>

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

// Sizes of a layer in training. Best of several: whatever else runs only adds.
double seconds_of_a_product(at::ScalarType type) {
  const at::InferenceMode guard;
  const at::Tensor rows = at::ones({512, 512}, type), weight = at::ones({512, 512}, type);
  double best = 1e9;
  for (int i = 0; i < 6; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const at::Tensor product = at::linear(rows, weight);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best = std::min(best, took.count());
  }
  return best;
}

enum class Known { kNothing, kNo, kYes };
std::atomic<Known> g_known = Known::kNothing;

}  // namespace

bool bf16_is_fast() {
  const Known known = g_known.load();
  if (known != Known::kNothing) return known == Known::kYes;
  static const bool is_fast =
      has_bf16_products() && seconds_of_a_product(at::kBFloat16) < seconds_of_a_product(at::kFloat);
  return is_fast;
}

void set_bf16_is_fast(bool is_fast) { g_known = is_fast ? Known::kYes : Known::kNo; }

}  // namespace espalier::kernels
