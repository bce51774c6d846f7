#include "trainer/checkpoint/host_snapshot.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/torch.h>

namespace espalier {

TensorMap HostSnapshot::take(const TensorMap& tensors) {
  const torch::NoGradGuard no_grad;
  TensorMap copies, buffers;
  std::optional<at::Device> device;
  for (const auto& [name, tensor] : tensors) {
    if (tensor.is_cpu()) {
      copies[name] = tensor.detach().clone(at::MemoryFormat::Contiguous);
      continue;
    }
    device = tensor.device();
    at::Tensor& buffer = buffers[name] = buffers_[name];
    if (!buffer.defined() || buffer.sizes() != tensor.sizes() ||
        buffer.scalar_type() != tensor.scalar_type()) {
      buffer =
          at::empty(tensor.sizes(), at::TensorOptions(tensor.scalar_type()).pinned_memory(true));
    }
    buffer.copy_(tensor.detach(), /*non_blocking=*/true);
    copies[name] = buffer;
  }
  buffers_ = std::move(buffers);  // without those that nobody asked for again
  copied_.reset();
  if (device) {
    copied_.emplace(device->type());
    copied_->record(c10::impl::VirtualGuardImpl(device->type()).getStream(*device));
  }
  return copies;
}

void HostSnapshot::wait() const {
  if (copied_) copied_->synchronize();
}

}  // namespace espalier
