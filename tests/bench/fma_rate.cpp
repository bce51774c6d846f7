// How fast this machine multiplies and adds right now, on one core and on two at once: virtual
// cores are at times two halves of one, or lose time to neighbours, and every figure taken then is
// about the machine, not the program. Prints {"one": GFLOP/s, "two": GFLOP/s}.
#include <algorithm>
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
  const Floats factor = 0.999F - Floats{};
  const Floats term = 0.001F - Floats{};
  // Names of their own, as an array would stay in memory, and starts of their own, as equal chains
  // would be computed once.
  const auto start = [](float x) { return x - Floats{}; };
  Floats a = start(1), b = start(2), c = start(3), d = start(4), e = start(5), f = start(6);
  Floats g = start(7), h = start(8), i = start(9), j = start(10), k = start(11), l = start(12);
  for (long round = 0; round < rounds; ++round) {
    a = a * factor + term, b = b * factor + term, c = c * factor + term;
    d = d * factor + term, e = e * factor + term, f = f * factor + term;
    g = g * factor + term, h = h * factor + term, i = i * factor + term;
    j = j * factor + term, k = k * factor + term, l = l * factor + term;
  }
  const Floats total = a + b + c + d + e + f + g + h + i + j + k + l;
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
