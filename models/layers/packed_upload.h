#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace espalier {

// Tensors of the CPU that travel to a device in one copy from pinned memory, which the host does
// not wait for. To the CPU itself nothing is copied at all.
class PackedUpload {
 public:
  PackedUpload() = default;  // of nothing
  // Copies them to pinned memory, and makes the tensors views of it. Undefined ones, and those that
  // are not on the CPU, are left alone. They must stay where they are until send(). Any thread.
  PackedUpload(const std::vector<at::Tensor*>& tensors, at::Device device);

  // Makes them views of the device's memory: for who comes later in the current stream.
  void send();

 private:
  struct Part {
    at::Tensor* tensor;
    int64_t offset;
  };
  std::vector<Part> parts_;
  at::Tensor pinned_;  // bytes
  at::Device device_ = at::kCPU;
};

// Both at once.
void upload_together(const std::vector<at::Tensor*>& tensors, at::Device device);

}  // namespace espalier
