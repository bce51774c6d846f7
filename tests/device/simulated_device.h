#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <c10/core/Device.h>

namespace espalier {

// A device that is not the CPU, on a machine without one: its tensors lie in host memory and every
// operation runs the CPU's kernel at once, but PyTorch, and the project, treat it as they treat a
// GPU. So a test sees where a program would make the host wait for a GPU, and that what it computes
// there is right. Registered by linking simulated_device.cpp, as the process's only accelerator.
at::Device simulated_device();

// What went over the bus, and when the host would have waited, since the process began; on all
// threads.
struct DeviceTraffic {
  int64_t waits = 0;             // of the host for the device, each named in `reasons`
  int64_t uploads = 0;           // copies to the device
  int64_t pageable_uploads = 0;  // those from memory that is not pinned, or not asynchronous
  int64_t uploaded_bytes = 0;
  std::vector<std::string> reasons;  // operation of each wait: "_local_scalar_dense", "nonzero", ..
};
DeviceTraffic device_traffic();
DeviceTraffic operator-(const DeviceTraffic& now, const DeviceTraffic& before);

// "3 waits (_local_scalar_dense, nonzero, nonzero), 2 uploads (1 pageable) of 96 bytes"
std::string to_string(const DeviceTraffic& traffic);

}  // namespace espalier
