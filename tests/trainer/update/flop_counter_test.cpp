#include "trainer/update/flop_counter.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "models/layers/linear.h"

namespace espalier {
namespace {

TEST(FlopCounter, CountsALinearLayerForwardAndBackwardAsSixPerWeightAndToken) {
  const at::Tensor x = torch::randn({10, 4}).requires_grad_();
  const at::Tensor weight = torch::randn({3, 4}).requires_grad_();
  const FlopCounter counter;
  const at::Tensor y = at::linear(x, weight);
  EXPECT_EQ(counter.flops(), 2.0 * 10 * 4 * 3);
  y.sum().backward();
  EXPECT_EQ(counter.flops(), 6.0 * 10 * 4 * 3);
}

TEST(FlopCounter, CountsConvolutionsByThePlacesTheyVisit) {
  const at::Tensor x = torch::randn({2, 3, 8, 8});
  const at::Tensor weight = torch::randn({5, 3, 3, 3}).requires_grad_();
  const FlopCounter counter;
  const at::Tensor y = at::conv2d(x, weight, {}, /*stride=*/2, /*padding=*/1);
  EXPECT_EQ(counter.flops(), 2.0 * 2 * 16 * 5 * 3 * 9);
  y.sum().backward();  // the input wants no gradient
  EXPECT_EQ(counter.flops(), 2 * 2.0 * 2 * 16 * 5 * 3 * 9);
}

TEST(FlopCounter, SeesNothingOnceItIsGone) {
  const at::Tensor x = torch::randn({4, 4});
  { const FlopCounter counter; }
  const FlopCounter counter;
  EXPECT_EQ(counter.flops(), 0.0);
  at::mm(x, x);
  EXPECT_EQ(counter.flops(), 128.0);
}

}  // namespace
}  // namespace espalier
