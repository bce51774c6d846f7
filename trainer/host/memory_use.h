#pragma once

#include <cstdint>

#include <c10/core/Device.h>

namespace espalier {

// The most host memory that this process held at any time (its resident set), in bytes.
int64_t peak_host_memory();

// The most host memory that this process held since it was last asked to forget the time before.
// 0: the system does not say.
void forget_peak_host_memory();
int64_t recent_peak_host_memory();
int64_t host_memory_now();

// The most memory of the device that its allocator had given out at any time, in bytes; 0 for the
// CPU. Asks the allocator and not the device: nobody waits.
int64_t peak_device_memory(c10::Device device);

}  // namespace espalier
