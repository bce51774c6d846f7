#include "models/world_model/diffusion_schedule.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/models/close.h"
#include "tests/models/world_model/golden.h"

namespace espalier {
namespace {

const DiffusionSchedule& schedule() {
  static const DiffusionSchedule made(100);
  return made;
}

TEST(DiffusionSchedule, HasTheBetasOfTheReference) {
  const auto& betas = schedule().betas();
  ASSERT_EQ(betas.size(), 100u);
  EXPECT_NEAR(betas[0], 6.31282e-4, 1e-9);
  EXPECT_NEAR(betas[1], 1.11694e-3, 1e-8);
  EXPECT_NEAR(betas[50], .0315463, 1e-7);
  EXPECT_NEAR(betas[98], .749939, 1e-6);
  EXPECT_EQ(betas[99], .999);
  EXPECT_NEAR(schedule().alpha_bar(0), .999369, 1e-6);
  EXPECT_NEAR(schedule().alpha_bar(10), .966717, 1e-6);
  EXPECT_NEAR(schedule().alpha_bar(99), 2.4286e-7, 1e-11);
  EXPECT_EQ(schedule().alpha_bar(-1), 1);
}

TEST(DiffusionSchedule, TablesAndStepsAreThoseOfDiffusers) {
  std::vector<double> alpha_bar;
  for (int64_t t = 0; t < 100; ++t) alpha_bar.push_back(schedule().alpha_bar(t));
  EXPECT_TRUE(are_close(torch::tensor(schedule().betas()), golden("schedule.betas"), 1e-6));
  EXPECT_TRUE(are_close(torch::tensor(alpha_bar), golden("schedule.alpha_bar"), 1e-6));
  EXPECT_TRUE(torch::equal(torch::tensor(schedule().ddim_timesteps(10), torch::kLong),
                           golden_world_model().at("schedule.timesteps").to(torch::kLong)));
  const at::Tensor x = golden("schedule.x"), epsilon = golden("schedule.epsilon");
  for (const int64_t t : {90, 10, 0}) {
    EXPECT_TRUE(are_close(schedule().ddim_step(x, epsilon, t, t == 0 ? -1 : t - 10),
                          golden("schedule.step_from_" + std::to_string(t)), 2e-5))
        << "from " << t;
  }
  EXPECT_TRUE(are_close(schedule().noised(x, epsilon, torch::tensor({3, 77}, torch::kLong)),
                        golden("schedule.noised"), 1e-6));
}

TEST(DiffusionSchedule, DdimWithTheTrueNoiseFindsTheCleanSignal) {
  torch::manual_seed(1);
  const at::Tensor clean = torch::randn({3, 7}, torch::kDouble), noise = torch::randn_like(clean);
  at::Tensor x = schedule().noised(clean, noise, torch::full({3}, 90, torch::kLong));
  EXPECT_FALSE(torch::allclose(x, clean, 0, 0.5));
  for (int64_t t = 90; t >= 0; t -= 10) {
    x = schedule().ddim_step(x, noise, t, t == 0 ? -1 : t - 10);
  }
  EXPECT_TRUE(are_close(x, clean, 1e-12));
}

TEST(DiffusionSchedule, NamesANumberOfStepsThatNoStrideGives) {
  EXPECT_EQ(schedule().ddim_timesteps(1), std::vector<int64_t>{50});
  EXPECT_EQ(schedule().ddim_timesteps(100).size(), 100u);
  try {
    schedule().ddim_timesteps(60);
    FAIL() << "no error";
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    EXPECT_NE(message.find("no stride visits 60 of 100"), std::string::npos) << message;
  }
}

TEST(FlowPoint, GoesFromNoiseToTheSignal) {
  const at::Tensor x = torch::full({3, 2}, 4.0f), noise = torch::zeros({3, 2});
  EXPECT_TRUE(torch::equal(flow_point(x, noise, torch::tensor({0.0f, 0.25f, 1.0f})).select(1, 0),
                           torch::tensor({0.0f, 1.0f, 4.0f})));
}

}  // namespace
}  // namespace espalier
