#pragma once

#include <deque>
#include <memory>
#include <mutex>

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

namespace espalier {

// A tensor's stand-in in host memory while it travels. Pinned for tensors on a GPU, from LibTorch's
// cache of pinned memory, which knows when a copy that still runs is over.
class HostStage {
 public:
  // Starts to copy `tensor` out, behind what its current stream holds.
  explicit HostStage(const at::Tensor& tensor);

  const at::Tensor& host() const { return host_; }
  bool is_filled() const;  // any thread

  // Copies the result into the tensor, in its current stream; `blocks`: until it is there.
  void copy_back(bool blocks) const;

 private:
  at::Tensor tensor_;
  at::Tensor host_;
  std::unique_ptr<c10::Event> filled_;  // null in host memory
};

// The stages of one communicator whose results have yet to come back, in the order of issue: a
// result brings those before it along, as operations finish in order. Any thread.
class HostStages {
 public:
  void add(std::shared_ptr<HostStage> stage);
  void bring_back(const HostStage& last, bool blocks);

 private:
  std::mutex mutex_;
  std::deque<std::shared_ptr<HostStage>> waiting_;
};

}  // namespace espalier
