#pragma once

#include <optional>
#include <string>
#include <vector>

#include <c10/core/Device.h>

namespace espalier {

// What NVIDIA's driver calls the GPUs of this machine, in its order.
std::vector<std::string> gpu_names();

// Floating-point operations a second that the vendor publishes for dense matrix products of this
// precision, "fp32" or "bf16"; none where it is not known. fp32 is not TF32, which is off here.
std::optional<double> published_peak_flops(const std::string& gpu, const std::string& precision);

// The same of the device that a rank computes on. A CPU's is not known.
std::optional<double> peak_flops_of(c10::Device device, const std::string& precision);

}  // namespace espalier
