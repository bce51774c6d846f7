#pragma once

#include <cstdint>

#include <mutex>

#include <ATen/core/Tensor.h>

namespace espalier {

// While it lives, the initial weights of modules are drawn from `seed`; afterwards the global
// generator, from which modules draw, goes on as if nothing had been drawn. One lives at a time in
// a process: ranks that are threads would draw from each other's seed.
class SeededStart {
 public:
  explicit SeededStart(uint64_t seed);
  ~SeededStart();
  SeededStart(const SeededStart&) = delete;
  SeededStart& operator=(const SeededStart&) = delete;

 private:
  const std::unique_lock<std::recursive_mutex> turn_;
  at::Tensor before_;
};

}  // namespace espalier
