#pragma once

#include <gtest/gtest.h>

#include <torch/torch.h>

namespace espalier {

// Largest difference against the size of what is expected; names the first sizes that differ.
inline ::testing::AssertionResult are_close(const at::Tensor& actual, const at::Tensor& expected,
                                            double tolerance) {
  if (!actual.defined() || !expected.defined()) {
    return ::testing::AssertionFailure() << "undefined tensor";
  }
  if (actual.sizes() != expected.sizes()) {
    return ::testing::AssertionFailure()
           << "sizes " << actual.sizes() << ", expected " << expected.sizes();
  }
  const at::Tensor difference = (actual.to(torch::kDouble) - expected.to(torch::kDouble)).abs();
  const double scale = std::max(1e-12, expected.abs().max().item<double>());
  const double worst = difference.max().item<double>() / scale;
  if (worst <= tolerance) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "relative difference " << worst << " at element "
                                       << difference.argmax().item<int64_t>();
}

}  // namespace espalier
