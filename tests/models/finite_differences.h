#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include <torch/torch.h>

namespace espalier {

// Compares, for every tensor, what backward says of a random direction with the difference quotient
// along it. `loss` gives a scalar from the tensors as they are, all in double; without gradient for
// a tensor, the loss must not change along it. Linear sums the gradient of its bias in fp32, which
// is what the tolerance is for.
inline void expect_finite_differences(const std::vector<at::Tensor>& tensors,
                                      const std::function<at::Tensor()>& loss,
                                      double tolerance = 1e-4) {
  constexpr double kStep = 1e-5;
  const auto gradients = torch::autograd::grad({loss()}, tensors, {}, std::nullopt, false, true);
  const torch::NoGradGuard no_gradient;
  for (size_t i = 0; i < tensors.size(); ++i) {
    at::Tensor x = tensors[i];
    ASSERT_EQ(x.scalar_type(), torch::kDouble);
    const at::Tensor direction = torch::randn_like(x);
    x.add_(direction, kStep);
    const double after = loss().item<double>();
    x.sub_(direction, 2 * kStep);
    const double before = loss().item<double>();
    x.add_(direction, kStep);
    const double measured = (after - before) / (2 * kStep);
    const double expected =
        gradients[i].defined() ? gradients[i].mul(direction).sum().item<double>() : 0.0;
    EXPECT_NEAR(measured, expected, tolerance * (1.0 + std::abs(expected))) << "tensor " << i;
  }
}

}  // namespace espalier
