#include "trainer/update/optimizer.h"

#include <gtest/gtest.h>
#include <torch/optim/adamw.h>
#include <torch/torch.h>

#include "refusal.h"
#include "trainer/update/precision.h"
#include "trainer/update/schedule.h"
#include "trainer/update/weight_average.h"

namespace espalier {
namespace {

OptimizerConfig config_without_clipping() {
  OptimizerConfig config;
  config.clip_norm = 0;
  return config;
}

at::Tensor parameter(std::vector<int64_t> shape) {
  return torch::linspace(-1, 1, 12).reshape(shape).clone().requires_grad_();
}

TEST(Optimizer, EqualsAdamWWithDecayOnMatricesOnly) {
  const OptimizerConfig config = config_without_clipping();
  const at::Tensor matrix = parameter({3, 4});
  const at::Tensor bias = parameter({12});
  const at::Tensor peer_matrix = parameter({3, 4});
  const at::Tensor peer_bias = parameter({12});
  Optimizer optimizer({{"all", {matrix, bias}}}, {"matrix", "bias"}, config);
  auto options = torch::optim::AdamWOptions(0.01).betas({config.beta1, config.beta2}).eps(1e-8);
  torch::optim::AdamW peer_decayed({peer_matrix}, options.weight_decay(config.weight_decay));
  torch::optim::AdamW peer_plain({peer_bias}, options.weight_decay(0));
  for (int step = 0; step < 5; ++step) {
    for (const auto& [mine, other] : {std::pair(matrix, peer_matrix), std::pair(bias, peer_bias)}) {
      mine.mutable_grad() = torch::sin(mine.detach() * 3 + step);
      other.mutable_grad() = torch::sin(other.detach() * 3 + step);
    }
    optimizer.update({true}, 0.01, optimizer.gradient_norm({true}));
    peer_decayed.step();
    peer_plain.step();
  }
  EXPECT_TRUE(torch::allclose(matrix, peer_matrix, 1e-5, 1e-7));
  EXPECT_TRUE(torch::allclose(bias, peer_bias, 1e-5, 1e-7));
}

TEST(Optimizer, LearnsByTheFactorOfTheFirstPatternThatFits) {
  OptimizerConfig config = config_without_clipping();
  config.weight_decay = 0;
  config.rate_factors = {"trunk.0.*: 0.5", "trunk.*: 0.1", "side.*: 0"};
  const std::vector<std::string> names = {"model/y/trunk.0.weight", "model/y/trunk.1.weight",
                                          "model/y/other.weight", "model/y/another.weight"};
  std::vector<at::Tensor> all;
  for (size_t i = 0; i < names.size(); ++i) all.push_back(parameter({12}));
  Optimizer optimizer({{"main", {all[0], all[1], all[2]}}, {"side", {all[3]}}}, names, config);
  const at::Tensor before = all[0].detach().clone();
  for (at::Tensor& each : all) each.mutable_grad() = torch::ones({12});
  optimizer.update({true, true}, 0.1, 0.0);
  const auto moved = [&](size_t i) { return (before - all[i].detach()).mean().item<double>(); };
  EXPECT_NEAR(moved(2), 0.1, 1e-5);
  EXPECT_NEAR(moved(0), 0.05, 1e-5);
  EXPECT_NEAR(moved(1), 0.01, 1e-5);
  EXPECT_EQ(moved(3), 0);
}

TEST(Optimizer, RefusesAFactorForNothingAndOneThatIsNone) {
  OptimizerConfig config;
  const auto made = [&](const std::string& factor) {
    config.rate_factors = {factor};
    return refusal([&] { Optimizer({{"all", {parameter({12})}}}, {"weight"}, config); });
  };
  EXPECT_NE(made("wieght: 2").find("\"wieght\" fits no parameter"), std::string::npos);
  EXPECT_NE(made("weight").find("write it like"), std::string::npos);
  EXPECT_NE(made("weight: -1").find("no factor of 0 or more"), std::string::npos);
  EXPECT_EQ(made("all.weight: 2"), "");
}

TEST(Optimizer, TablesOfLearnedVectorsAreNotDecayed) {
  OptimizerConfig config = config_without_clipping();
  config.weight_decay = 0.5;
  const at::Tensor matrix = parameter({3, 4}), table = parameter({3, 4});
  const at::Tensor before = table.detach().clone();
  Optimizer optimizer({{"all", {matrix, table}}},
                      {"model/y/trunk.0.down.weight", "model/y/text_embedding.weight"}, config);
  matrix.mutable_grad() = torch::zeros({3, 4});
  table.mutable_grad() = torch::zeros({3, 4});
  optimizer.update({true}, 0.1, 0.0);
  EXPECT_FALSE(matrix.equal(before));
  EXPECT_TRUE(table.equal(before));
}

TEST(Optimizer, ClipsToTheGlobalNorm) {
  OptimizerConfig config;
  config.clip_norm = 0.5;
  const at::Tensor a = parameter({12});
  const at::Tensor b = parameter({3, 4});
  Optimizer optimizer({{"a", {a}}, {"b", {b}}}, {"a", "b"}, config);
  a.mutable_grad() = torch::full({12}, 3.0);
  b.mutable_grad() = torch::full({3, 4}, 4.0);
  const double norm = optimizer.gradient_norm({true, true});
  EXPECT_NEAR(norm, std::sqrt(12 * 25.0), 1e-4);
  optimizer.update({true, true}, 0.0, norm);
  EXPECT_NEAR(optimizer.gradient_norm({true, true}), 0.5, 1e-5);
}

TEST(Optimizer, GroupThatNobodyRanKeepsWeightsMomentsAndStepCount) {
  const at::Tensor a = parameter({12});
  const at::Tensor b = parameter({3, 4});
  const at::Tensor before = b.detach().clone();
  Optimizer optimizer({{"a", {a}}, {"b", {b}}}, {"a", "b"}, config_without_clipping());
  a.mutable_grad() = torch::ones({12});
  b.mutable_grad() = torch::ones({3, 4});
  optimizer.update({true, false}, 0.1, optimizer.gradient_norm({true, false}));
  EXPECT_TRUE(b.equal(before));
  EXPECT_EQ(optimizer.state().at("steps/a").item<float>(), 1);
  EXPECT_EQ(optimizer.state().at("steps/b").item<float>(), 0);
  EXPECT_EQ(optimizer.state().at("mean/b").abs().sum().item<float>(), 0);
}

TEST(Schedule, RisesThenFallsAlongACosine) {
  OptimizerConfig config;
  config.learning_rate = 2.0;
  config.final_fraction = 0.1;
  config.warmup_steps = 10;
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 0, 110), 0.2);
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 9, 110), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 10, 110), 2.0);
  EXPECT_NEAR(learning_rate_at(config, 60, 110), 2.0 * 0.55, 1e-9);
  EXPECT_NEAR(learning_rate_at(config, 110, 110), 0.2, 1e-9);
}

TEST(Schedule, NoStepIsWastedOnARateOfZero) {
  OptimizerConfig config;
  config.final_fraction = 0;
  config.warmup_steps = 3;
  for (int64_t step = 0; step < 20; ++step) EXPECT_GT(learning_rate_at(config, step, 20), 0.0);
}

TEST(Schedule, WarmUpLongerThanTheRunReachesThePeakAtItsEnd) {
  OptimizerConfig config;
  config.warmup_steps = 50;
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 9, 20), config.learning_rate / 2);
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 19, 20), config.learning_rate);
}

TEST(Schedule, NoWarmUpAndASingleStep) {
  OptimizerConfig config;
  config.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 0, 1), config.learning_rate);
}

TEST(WeightAverage, SwapsThereAndBackAndIsAdopted) {
  const at::Tensor weight = torch::zeros({3}).requires_grad_();
  WeightAverage average({weight}, {"w"}, 0.5);
  {
    const torch::NoGradGuard no_grad;
    weight.fill_(8);
  }
  average.update(100);  // half of the way from 0 to 8
  average.swap();
  EXPECT_TRUE(weight.equal(torch::full({3}, 4.0)));
  average.swap();
  EXPECT_TRUE(weight.equal(torch::full({3}, 8.0)));
  average.adopt();
  EXPECT_TRUE(weight.equal(torch::full({3}, 4.0)));
}

TEST(WeightAverage, OffKeepsNothing) {
  const at::Tensor weight = torch::zeros({3}).requires_grad_();
  WeightAverage average({weight}, {"w"}, 0);
  average.update(1);
  average.adopt();
  EXPECT_FALSE(average.is_on());
  EXPECT_TRUE(average.state().empty());
}

TEST(PrecisionGuard, MatrixProductsInBfloat16WhileItLives) {
  const at::Tensor x = torch::ones({2, 2});
  {
    const PrecisionGuard guard(at::kCPU, "bf16");
    EXPECT_EQ(torch::matmul(x, x).scalar_type(), at::kBFloat16);
  }
  EXPECT_EQ(torch::matmul(x, x).scalar_type(), at::kFloat);
  const PrecisionGuard guard(at::kCPU, "fp32");
  EXPECT_EQ(torch::matmul(x, x).scalar_type(), at::kFloat);
}

}  // namespace
}  // namespace espalier
