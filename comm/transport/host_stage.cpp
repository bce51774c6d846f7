#include "comm/transport/host_stage.h"

#include <algorithm>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace espalier {

HostStage::HostStage(const at::Tensor& tensor) : tensor_(tensor) {
  const at::NoGradGuard no_grad;
  const bool is_on_host = tensor.device().is_cpu();
  host_ =
      at::empty(tensor.sizes(),
                tensor.options().device(at::kCPU).requires_grad(false).pinned_memory(!is_on_host));
  host_.copy_(tensor, /*non_blocking=*/true);
  if (is_on_host) return;
  const c10::impl::VirtualGuardImpl device(tensor.device().type());
  filled_ = std::make_unique<c10::Event>(tensor.device().type());
  filled_->record(device.getStream(tensor.device()));
}

bool HostStage::is_filled() const { return !filled_ || filled_->query(); }

void HostStage::copy_back(bool blocks) const {
  const at::NoGradGuard no_grad;
  at::Tensor to = tensor_.detach();
  to.copy_(host_, /*non_blocking=*/!blocks);
}

void HostStages::add(std::shared_ptr<HostStage> stage) {
  const std::lock_guard lock(mutex_);
  waiting_.push_back(std::move(stage));
}

void HostStages::bring_back(const HostStage& last, bool blocks) {
  const std::lock_guard lock(mutex_);
  const auto end = std::find_if(waiting_.begin(), waiting_.end(),
                                [&](const auto& stage) { return stage.get() == &last; });
  if (end == waiting_.end()) return;  // it is back already
  for (auto stage = waiting_.begin(); stage <= end; ++stage) (*stage)->copy_back(blocks);
  waiting_.erase(waiting_.begin(), end + 1);
}

}  // namespace espalier
