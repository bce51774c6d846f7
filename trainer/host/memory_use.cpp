#include "trainer/host/memory_use.h"

#include <sys/resource.h>

#include <fstream>
#include <string>

#include <c10/core/CachingDeviceAllocator.h>

namespace espalier {

int64_t peak_host_memory() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return int64_t{1024} * usage.ru_maxrss;  // it is in KiB
}

namespace {

// "VmHWM:   1234 kB" of /proc/self/status, in bytes.
int64_t status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word != key + ":") continue;
    int64_t kib = 0;
    status >> kib;
    return int64_t{1024} * kib;
  }
  return 0;
}

}  // namespace

// man 5 proc, /proc/pid/clear_refs: 5 sets the peak to what is held now.
void forget_peak_host_memory() { std::ofstream("/proc/self/clear_refs") << "5"; }

int64_t recent_peak_host_memory() { return status_bytes("VmHWM"); }

int64_t host_memory_now() { return status_bytes("VmRSS"); }

int64_t peak_device_memory(c10::Device device) {
  if (device.is_cpu()) return 0;
  auto* allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(device.type()));
  if (allocator == nullptr || !allocator->initialized()) return 0;
  constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return allocator->getDeviceStats(device.index()).allocated_bytes[kAll].peak;
}

}  // namespace espalier
