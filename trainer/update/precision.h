#pragma once

#include <string>

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

namespace espalier {

// "fp32" or "bf16" for "auto": bf16 on a GPU and on a CPU that multiplies it faster than fp32.
std::string resolve_precision(c10::DeviceType device, const std::string& precision);

// While it lives, matrix products and convolutions of this thread run in bfloat16 when `precision`
// is "bf16"; weights, gradients, sums and norms stay fp32. "fp32" changes nothing. Needs no loss
// scaling: bfloat16 has the range of fp32.
class PrecisionGuard {
 public:
  PrecisionGuard(c10::DeviceType device, const std::string& precision);
  ~PrecisionGuard();
  PrecisionGuard(const PrecisionGuard&) = delete;
  PrecisionGuard& operator=(const PrecisionGuard&) = delete;

 private:
  c10::DeviceType device_;
  bool is_active_;
  bool was_enabled_ = false;
  c10::ScalarType old_dtype_ = c10::ScalarType::Float;
};

}  // namespace espalier
