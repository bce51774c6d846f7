#include "trainer/update/precision.h"

#include <ATen/autocast_mode.h>

#include "models/kernels/cpu_features.h"

namespace espalier {

std::string resolve_precision(c10::DeviceType device, const std::string& precision) {
  if (precision != "auto") return precision;
  return device != c10::DeviceType::CPU || kernels::bf16_is_fast() ? "bf16" : "fp32";
}

PrecisionGuard::PrecisionGuard(c10::DeviceType device, const std::string& precision)
    : device_(device), is_active_(resolve_precision(device, precision) == "bf16") {
  if (!is_active_) return;
  was_enabled_ = at::autocast::is_autocast_enabled(device_);
  old_dtype_ = at::autocast::get_autocast_dtype(device_);
  at::autocast::set_autocast_enabled(device_, true);
  at::autocast::set_autocast_dtype(device_, at::kBFloat16);
  at::autocast::increment_nesting();
}

PrecisionGuard::~PrecisionGuard() {
  if (!is_active_) return;
  // The cached bfloat16 copies of weights must not outlive an update of the weights.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(device_, was_enabled_);
  at::autocast::set_autocast_dtype(device_, old_dtype_);
}

}  // namespace espalier
