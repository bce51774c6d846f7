// How fast this machine multiplies and adds right now, on one core and on two at once: virtual
// cores are at times two halves of one, or lose time to neighbours, and every figure taken then is
// about the machine, not the program. Prints {"one": GFLOP/s, "two": GFLOP/s}.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

namespace {

using Floats = float __attribute__((vector_size(64)));
constexpr int kChains = 12;  // hides the latency of one behind the others
constexpr int kLanes = 16;
constexpr long kRounds = 2'000'000;

#if defined(__x86_64__)
__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif
float run_chains(long rounds) {
  std::array<Floats, kChains> sums{};
  const Floats factor = 0.999F - Floats{};
  const Floats term = 0.001F - Floats{};
  for (long i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (Floats& sum : sums) sum = sum * factor + term;
  }
  Floats total{};
  for (const Floats& sum : sums) total += sum;
  float lanes[kLanes];
  std::memcpy(lanes, &total, sizeof lanes);
  return lanes[0];
}

double rate(int threads) {
  double best = 0;
  for (int repeat = 0; repeat < 3; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> team;
    std::vector<float> results(static_cast<size_t>(threads));
    for (float& result : results) team.emplace_back([&result] { result = run_chains(kRounds); });
    for (std::thread& thread : team) thread.join();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    const double operations = 2.0 * kLanes * kChains * kRounds * threads;
    best = std::max(best, operations / seconds.count() * 1e-9);
  }
  return best;
}

}  // namespace

int main() {
  const double one = rate(1);
  std::printf("{\"one\": %.1f, \"two\": %.1f}\n", one, rate(2));
}
