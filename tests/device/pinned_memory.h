#pragma once

#include <algorithm>
#include <iterator>
#include <map>
#include <mutex>

#include <c10/core/Allocator.h>
#include <c10/core/impl/alloc_cpu.h>

namespace espalier {

// Host memory that the simulated device calls pinned: ordinary, but known.
class PinnedMemory {
 public:
  static PinnedMemory& get() {
    static PinnedMemory memory;
    return memory;
  }
  c10::DataPtr allocate(size_t bytes) {
    void* const data = c10::alloc_cpu(std::max<size_t>(bytes, 1));
    const std::lock_guard lock(mutex_);
    live_[data] = bytes;
    return {data, data, [](void* p) { get().free(p); }, c10::Device(c10::kCPU)};
  }
  bool contains(const void* data) {
    const std::lock_guard lock(mutex_);
    const auto after = live_.upper_bound(const_cast<void*>(data));
    if (after == live_.begin()) return false;
    const auto& [first, bytes] = *std::prev(after);
    return data < static_cast<char*>(first) + std::max<size_t>(bytes, 1);
  }

 private:
  void free(void* data) {
    {
      const std::lock_guard lock(mutex_);
      live_.erase(data);
    }
    c10::free_cpu(data);
  }
  std::mutex mutex_;
  std::map<void*, size_t> live_;
};

}  // namespace espalier
