#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

#include <torch/torch.h>

namespace espalier {

inline void finish_work_of(at::Device device) {
  if (device.is_cuda()) torch::cuda::synchronize();
}

// Seconds per call of `body`, of `windows` windows of `calls` calls each, sorted. The device is
// idle when a window begins and when it ends.
inline std::vector<double> seconds_per_call(at::Device device, int64_t windows, int64_t calls,
                                            const std::function<void()>& body) {
  std::vector<double> seconds;
  for (int64_t window = 0; window < windows; ++window) {
    finish_work_of(device);
    const auto start = std::chrono::steady_clock::now();
    for (int64_t call = 0; call < calls; ++call) body();
    finish_work_of(device);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    seconds.push_back(elapsed.count() / static_cast<double>(calls));
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

}  // namespace espalier
