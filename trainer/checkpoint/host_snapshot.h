#pragma once

#include <optional>

#include <c10/core/Event.h>

#include "models/weights/safetensors.h"

namespace espalier {

// Copies on the host of tensors as they are at one moment, to be written while training goes on.
class HostSnapshot {
 public:
  // Of tensors of the CPU, copies. Of a GPU's, what will be copies after wait(), in pinned memory
  // that the next take() uses again: the copies stand in the GPU's queue before whatever changes
  // the tensors later, and the host does not wait for them.
  TensorMap take(const TensorMap& tensors);

  // Blocks until all of them are there. Any thread.
  void wait() const;

 private:
  TensorMap buffers_;
  std::optional<c10::Event> copied_;
};

}  // namespace espalier
