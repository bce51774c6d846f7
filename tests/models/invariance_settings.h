#pragma once

#include <ostream>
#include <string>

#include <gtest/gtest.h>

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

#include "models/layers/batch_invariance.h"
#include "models/layers/linear.h"

// What products run on, for tests that compare bits.
namespace espalier {

struct ProductSettings {
  std::string name;
  at::ScalarType type = at::kFloat;
  int threads = 1;
  Fp32Library library = Fp32Library::kFaster;
};
inline std::ostream& operator<<(std::ostream& out, const ProductSettings& settings) {
  return out << settings.name;
}

inline auto all_product_settings() {
  return ::testing::Values(
      ProductSettings{"Fp32", at::kFloat, 1}, ProductSettings{"Fp32OnTwoThreads", at::kFloat, 2},
      ProductSettings{"Mkl", at::kFloat, 1, Fp32Library::kMkl},
      ProductSettings{"OneDnn", at::kFloat, 1, Fp32Library::kOneDnn},
      ProductSettings{"OneDnnOnTwoThreads", at::kFloat, 2, Fp32Library::kOneDnn},
      ProductSettings{"Bf16", at::kBFloat16, 1},
      ProductSettings{"Bf16OnTwoThreads", at::kBFloat16, 2});
}

// In force while it lives.
class ProductGuard {
 public:
  explicit ProductGuard(const ProductSettings& settings, bool is_invariant = true)
      : threads_(at::get_num_threads()) {
    at::set_num_threads(settings.threads);
    set_fp32_library(settings.library);
    set_batch_invariant(is_invariant);
    at::autocast::set_autocast_enabled(at::kCPU, settings.type == at::kBFloat16);
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  }
  ~ProductGuard() {
    at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(at::kCPU, false);
    set_batch_invariant(true);
    set_fp32_library(Fp32Library::kFaster);
    at::set_num_threads(threads_);
  }
  ProductGuard(const ProductGuard&) = delete;
  ProductGuard& operator=(const ProductGuard&) = delete;

 private:
  int threads_;
};

}  // namespace espalier
