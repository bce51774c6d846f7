#include "models/layers/packed_upload.h"

#include <torch/torch.h>

namespace espalier {
namespace {

constexpr int64_t kAlignment =
    64;  // of a tensor in the packed bytes: a view of any type begins there

// Like `model`, in these bytes.
at::Tensor view_in(const at::Tensor& bytes, int64_t offset, const at::Tensor& model) {
  return bytes.narrow(0, offset, static_cast<int64_t>(model.nbytes()))
      .view(model.scalar_type())
      .view(model.sizes());
}

}  // namespace

PackedUpload::PackedUpload(const std::vector<at::Tensor*>& tensors, at::Device device)
    : device_(device) {
  if (device.is_cpu()) return;
  const torch::NoGradGuard no_grad;
  int64_t size = 0;
  for (at::Tensor* tensor : tensors) {
    if (!tensor->defined() || !tensor->is_cpu()) continue;
    parts_.push_back({tensor, size});
    const auto bytes = static_cast<int64_t>(tensor->nbytes());
    size += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  if (parts_.empty()) return;
  pinned_ = at::empty({size}, at::TensorOptions(at::kByte).pinned_memory(true));
  for (const Part& part : parts_) {
    const at::Tensor packed = view_in(pinned_, part.offset, *part.tensor);
    packed.copy_(*part.tensor);
    *part.tensor = packed;
  }
}

void PackedUpload::send() {
  if (parts_.empty()) return;
  const torch::NoGradGuard no_grad;
  const at::Tensor sent = pinned_.to(device_, /*non_blocking=*/true);
  for (const Part& part : parts_) *part.tensor = view_in(sent, part.offset, *part.tensor);
  parts_.clear();
  pinned_.reset();
}

void upload_together(const std::vector<at::Tensor*>& tensors, at::Device device) {
  PackedUpload(tensors, device).send();
}

}  // namespace espalier
