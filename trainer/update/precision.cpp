#include "trainer/update/precision.h"

#include <ATen/autocast_mode.h>

namespace espalier {

PrecisionGuard::PrecisionGuard(c10::DeviceType device, const std::string& precision)
    : device_(device), is_active_(precision == "bf16") {
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
