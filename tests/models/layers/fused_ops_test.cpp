#include "models/layers/fused_ops.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <ATen/autocast_mode.h>

#include "models/layers/linear.h"
#include "tests/models/close.h"

namespace espalier {
namespace {

// Autocast to bf16 on CPU for the life of the object.
class Bf16Scope {
 public:
  Bf16Scope() {
    at::autocast::set_autocast_enabled(at::kCPU, true);
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  }
  ~Bf16Scope() {
    at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(at::kCPU, false);
  }
};

// 37 is no multiple of a vector, 300 rows are more than one piece.
class RowOps : public ::testing::TestWithParam<int64_t> {
 protected:
  RowOps() { torch::manual_seed(3); }
  int64_t width() const { return GetParam(); }
  at::Tensor rows(int64_t columns) const { return torch::randn({300, columns}); }
};

TEST_P(RowOps, AddRmsNormEqualsItsFormulaWithGradients) {
  const auto x = rows(width()).requires_grad_();
  const auto delta = rows(width()).requires_grad_();
  const auto weight = torch::randn({width()}).requires_grad_();
  const auto to_sum = rows(width());
  const auto to_out = rows(width());
  std::vector<at::Tensor> gradients[2];
  std::pair<at::Tensor, at::Tensor> results[2];
  for (const int i : {0, 1}) {
    results[i] = i == 0 ? add_rms_norm(x, delta, weight, 1e-6)
                        : composed_add_rms_norm(x, delta, weight, 1e-6);
    gradients[i] = torch::autograd::grad({results[i].first, results[i].second}, {x, delta, weight},
                                         {to_sum, to_out});
  }
  EXPECT_TRUE(are_close(results[0].first, results[1].first, 1e-6));
  EXPECT_TRUE(are_close(results[0].second, results[1].second, 1e-5));
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(are_close(gradients[0][i], gradients[1][i], 1e-5));
}

TEST_P(RowOps, SwigluEqualsItsFormulaWithGradients) {
  const auto x = rows(2 * width()).requires_grad_();
  const auto to = rows(width());
  const auto fused = swiglu(x);
  const auto composed = composed_swiglu(x);
  EXPECT_TRUE(are_close(fused, composed, 1e-5));
  EXPECT_TRUE(are_close(torch::autograd::grad({fused}, {x}, {to})[0],
                        torch::autograd::grad({composed}, {x}, {to})[0], 1e-5));
}

TEST_P(RowOps, CrossEntropyEqualsLogSoftmaxAndNegativeLogLikelihood) {
  const auto x = (rows(width()) * 5).requires_grad_();
  const auto targets = torch::randint(width(), {300}, torch::kLong);
  const auto fused = cross_entropy_sum(x, targets);
  const auto composed = composed_cross_entropy_sum(x, targets);
  EXPECT_TRUE(are_close(fused, composed, 1e-5));
  EXPECT_TRUE(are_close(torch::autograd::grad({fused * 0.25}, {x})[0],
                        torch::autograd::grad({composed * 0.25}, {x})[0], 1e-5));
}

TEST_P(RowOps, Bf16DiffersFromFp32ByItsRoundingOnly) {
  const auto x = rows(2 * width());
  const auto targets = torch::randint(width(), {300}, torch::kLong);
  const auto small = x.narrow(1, 0, width()).contiguous();
  EXPECT_TRUE(are_close(swiglu(x.to(torch::kBFloat16)), swiglu(x), 2e-2));
  EXPECT_TRUE(are_close(cross_entropy_sum(small.to(torch::kBFloat16), targets),
                        cross_entropy_sum(small, targets), 1e-2));
  const auto expected = add_rms_norm(small, {}, torch::ones({width()}), 1e-6).second;
  const Bf16Scope bf16;
  const auto [sum, out] = add_rms_norm(small, {}, torch::ones({width()}), 1e-6);
  EXPECT_EQ(out.scalar_type(), torch::kBFloat16);
  EXPECT_EQ(sum.scalar_type(), torch::kFloat);
  EXPECT_TRUE(are_close(out, expected, 1e-2));
}

INSTANTIATE_TEST_SUITE_P(Widths, RowOps, ::testing::Values(16, 37, 256));

TEST(CrossEntropySum, NamesTheRangeOfWrongTargets) {
  try {
    cross_entropy_sum(torch::zeros({2, 4}), torch::tensor({0, 4}, torch::kLong));
    FAIL() << "no error";
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    EXPECT_NE(message.find("0..3, got 0..4"), std::string::npos) << message;
  }
}

TEST(RowOps, GiveNanForNan) {
  const auto x = torch::full({1, 32}, std::numeric_limits<float>::quiet_NaN());
  EXPECT_TRUE(torch::isnan(swiglu(x)).all().item<bool>());
  EXPECT_TRUE(torch::isnan(cross_entropy_sum(x, torch::zeros({1}, torch::kLong))).item<bool>());
  EXPECT_TRUE(torch::isnan(add_rms_norm(x, {}, torch::ones({32}), 1e-6).second).all().item<bool>());
}

TEST(Linear, EqualsTheLinearOfTorchWithBias) {
  torch::manual_seed(5);
  Linear ours(24, 10, /*with_bias=*/true);
  torch::nn::init::normal_(ours->bias);
  const auto x = torch::randn({7, 24}).requires_grad_();
  const auto theirs = torch::nn::functional::linear(x, ours->weight, ours->bias);
  const auto mine = ours->forward(x);
  EXPECT_TRUE(are_close(mine, theirs, 1e-5));
  const auto to = torch::randn({7, 10});
  const auto a = torch::autograd::grad({mine}, {x, ours->weight, ours->bias}, {to});
  const auto b = torch::autograd::grad({theirs}, {x, ours->weight, ours->bias}, {to});
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(are_close(a[i], b[i], 1e-5));
}

TEST(Linear, TheBf16CopyFollowsTheWeight) {
  Linear linear(32, 32);
  const auto x = torch::randn({4, 32});
  const Bf16Scope bf16;
  const torch::NoGradGuard no_grad;
  const auto before = linear->forward(x);
  linear->weight.mul_(2);
  EXPECT_TRUE(are_close(linear->forward(x), before * 2, 1e-2));
}

}  // namespace
}  // namespace espalier
