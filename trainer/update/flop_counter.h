#pragma once

#include <memory>

namespace espalier {

// Counts the floating-point operations of matrix products, convolutions and fused attention that
// LibTorch runs while it lives: those of this thread, and of the backward passes that this thread
// starts. An operation is one multiplication or one addition: a product of (m, k) and (k, n) is
// 2 m k n. Everything else is left out (it is little), and so are kernels that are not LibTorch's:
// attention by our own on the CPU.
//
// Costs a look at every operation, so it counts a slot of each kind once and not every step.
class FlopCounter {
 public:
  FlopCounter();
  ~FlopCounter();
  FlopCounter(const FlopCounter&) = delete;
  FlopCounter& operator=(const FlopCounter&) = delete;

  double flops() const;

 private:
  struct Scope;
  std::unique_ptr<Scope> scope_;
};

}  // namespace espalier
