#include "trainer/objectives/world_model/policy.h"

#include <numeric>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "comm/transport/single_communicator.h"
#include "toy_room.h"
#include "trainer/named/named_things.h"
#include "world_things.h"

namespace espalier {
namespace {

class WorldPolicyTest : public ::testing::Test {
 protected:
  // What it does at its first step in environments of these seeds, which all look the same.
  at::Tensor first_actions(const std::vector<int64_t>& seeds, double temperature) {
    WorldPolicy policy(model_, 3,
                       {.ensemble = false, .temperature = temperature, .precision = "fp32"});
    policy.start(std::vector<std::string>(seeds.size(), "go"), seeds);
    const auto count = static_cast<int64_t>(seeds.size());
    std::vector<int64_t> active;
    for (int64_t e = 0; e < count; ++e) active.push_back(e);
    return policy.act(observation(count), active).actions;
  }
  static Observation observation(int64_t count) {
    return {.images = at::full({count, 2, 8, 8, 3}, 90, at::kByte), .state = at::ones({count, 3})};
  }

  WorldFiles files_{/*is_discrete=*/true};
  RunConfig config_ = files_.config(fresh_directory("run"),
                                    {"model.world.action_head=direct", "model.world.timesteps=1",
                                     "model.world.queries.dynamic=0"});
  std::unique_ptr<Communicator> comm_ = make_single_communicator();
  NamedThings things_{config_, *comm_, at::kCPU};
  WorldModel& model_ = things_.model_as<WorldModel>("world", "a test");
};

TEST_F(WorldPolicyTest, WithoutATemperatureTheLikeliestActionIsTakenEverywhere) {
  const at::Tensor actions = first_actions({1, 2, 3, 4, 5, 6, 7, 8}, 0.0).argmax(1);
  EXPECT_TRUE(actions.eq(actions[0]).all().item<bool>());
}

TEST_F(WorldPolicyTest, WithATemperatureActionsComeAsOftenAsTheirProbabilitiesSay) {
  std::vector<int64_t> seeds;
  for (int64_t s = 0; s < 2000; ++s) seeds.push_back(s);
  const at::Tensor likely = at::softmax(first_actions({1}, 0.0)[0] / 2.0, 0);
  const at::Tensor taken = at::bincount(first_actions(seeds, 2.0).argmax(1), {}, 2).to(at::kFloat);
  // Four standard errors of a share of 2000 draws.
  EXPECT_TRUE(torch::allclose(taken / 2000.0, likely, 0, 0.045)) << taken << likely;
}

TEST_F(WorldPolicyTest, WhoSeesTheSameAgainAndAgainTriesSomethingElse) {
  const at::Tensor logits = first_actions({1}, 0.0)[0];
  const double gap = (logits.max() - logits.min()).item<double>();
  constexpr int64_t kCount = 100;
  std::vector<std::string> said(kCount, "go");
  std::vector<int64_t> all(kCount);
  std::iota(all.begin(), all.end(), 0);
  WorldPolicy policy(model_, 3, {.ensemble = false, .temperature = gap / 10, .precision = "fp32"});
  policy.start(said, all);
  std::vector<double> others;
  for (int time = 0; time < 10; ++time) {
    const at::Tensor taken = policy.act(observation(kCount), all).actions.argmax(1);
    others.push_back(taken.ne(logits.argmax()).to(at::kDouble).mean().item<double>());
  }
  EXPECT_EQ(others.front(), 0.0);
  EXPECT_GT(others.back(), 0.1) << "at a temperature of the gap, 27 of 100 are the other action";
}

TEST_F(WorldPolicyTest, WhatIsDrawnDependsOnTheEpisodeAndNotOnThoseBesideIt) {
  const at::Tensor together = first_actions({11, 12, 13}, 1.0), alone = first_actions({13}, 1.0);
  EXPECT_TRUE(torch::allclose(together[2], alone[0], 1e-4, 1e-5));
}

}  // namespace
}  // namespace espalier
