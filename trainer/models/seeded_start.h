#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace espalier {

// While it lives, the initial weights of modules are drawn from `seed`; afterwards the global
// generator, from which modules draw, goes on as if nothing had been drawn.
class SeededStart {
 public:
  explicit SeededStart(uint64_t seed);
  ~SeededStart();
  SeededStart(const SeededStart&) = delete;
  SeededStart& operator=(const SeededStart&) = delete;

 private:
  at::Tensor before_;
};

}  // namespace espalier
