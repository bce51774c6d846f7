// The objective that trains a world model, on small real episodes.
#include <cmath>
#include <functional>
#include <map>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "comm/transport/single_communicator.h"
#include "toy_room.h"
#include "trainer/errors.h"
#include "trainer/objectives/world_model/world_model.h"
#include "trainer/stage.h"
#include "world_things.h"

namespace espalier {
namespace {

const std::string kWeights = "stage.world.objectives.world_model.weight.";

class WorldModelObjectiveTest : public ::testing::Test {
 protected:
  struct Made {
    Made(RunConfig run, Communicator& comm)
        : config(std::move(run)),
          things(config, comm, at::kCPU),
          stage(things, config.stages[0],
                /*for_training=*/true) {}
    WorldModel& model() { return things.model_as<WorldModel>("world", "a test"); }
    RunConfig config;
    NamedThings things;
    Stage stage;
  };
  std::unique_ptr<Made> make(const std::vector<std::string>& sets = {},
                             const WorldFiles* files = nullptr) {
    const WorldFiles& from = files == nullptr ? files_ : *files;
    return std::make_unique<Made>(from.config(fresh_directory("run"), sets), *comm_);
  }
  static const WorldModelBatch& part(const SlotBatch& batch) {
    return dynamic_cast<const WorldModelBatch&>(*batch.parts.at(0));
  }
  // Losses and targets of a whole step, over all its slots.
  static std::pair<std::vector<double>, std::vector<double>> step_sums(Made& made, int64_t step) {
    std::vector<double> sums(made.stage.losses().size(), 0.0), counts(sums);
    for (int64_t slot = 0; slot < made.stage.config().slots(); ++slot) {
      const SlotBatch batch = made.stage.load(step, slot);
      made.stage.count_targets(batch, counts);
      const auto losses = made.stage.compute(batch);
      for (size_t i = 0; i < losses.size(); ++i) sums[i] += losses[i].item<double>();
    }
    return {sums, counts};
  }
  // Gradients of one slot by parameter, of the losses whose weight is not 0.
  std::map<std::string, at::Tensor> gradients(const std::vector<std::string>& sets) {
    const auto made = make(sets);
    const auto losses = made->stage.compute(made->stage.load(0, 0));
    at::Tensor total;
    for (size_t i = 0; i < losses.size(); ++i) {
      const double weight = made->stage.losses()[i].weight;
      if (weight == 0) continue;
      const at::Tensor term = losses[i] * weight;
      total = total.defined() ? total + term : term;
    }
    total.backward();
    std::map<std::string, at::Tensor> all;
    for (const auto& item : made->model().network()->named_parameters()) {
      all[item.key()] = item.value().grad();
    }
    return all;
  }

  WorldFiles files_;
  std::unique_ptr<Communicator> comm_ = make_single_communicator();
};

TEST_F(WorldModelObjectiveTest, ASlotIsAPureFunctionOfSeedStepAndSlot) {
  const auto first = make(), second = make();
  second->stage.load(0, 0);
  const SlotBatch a = first->stage.load(3, 1), b = second->stage.load(3, 1),
                  other = second->stage.load(3, 2);
  EXPECT_TRUE(torch::equal(part(a).windows.inputs.images, part(b).windows.inputs.images));
  EXPECT_TRUE(torch::equal(part(a).draws.noise, part(b).draws.noise));
  EXPECT_TRUE(torch::equal(part(a).draws.dropped, part(b).draws.dropped));
  EXPECT_TRUE(torch::equal(part(a).semantic, part(b).semantic));
  const auto losses = first->stage.compute(a), again = second->stage.compute(b);
  for (size_t i = 0; i < losses.size(); ++i) EXPECT_TRUE(torch::equal(losses[i], again[i]));
  EXPECT_FALSE(torch::equal(part(a).windows.inputs.steps, part(other).windows.inputs.steps) &&
               torch::equal(part(a).windows.inputs.images, part(other).windows.inputs.images));
}

TEST_F(WorldModelObjectiveTest, LossesAndTargetsOfAStepDoNotDependOnTheSizeOfItsMicroBatches) {
  for (const std::string kind : {"cosine", "info_nce"}) {
    const std::string loss = "stage.world.objectives.world_model.semantic_loss=" + kind;
    const auto small = make({loss}), large = make({loss, "stage.world.micro_batch_size=8"});
    const auto [sums, counts] = step_sums(*small, 2);
    const auto [other_sums, other_counts] = step_sums(*large, 2);
    EXPECT_EQ(counts, other_counts);
    for (size_t i = 0; i < sums.size(); ++i) {
      EXPECT_GT(counts[i], 0) << small->stage.losses()[i].name;
      EXPECT_NEAR(sums[i], other_sums[i], 1e-4 * std::abs(sums[i]))
          << small->stage.losses()[i].name << " " << kind;
    }
  }
}

TEST_F(WorldModelObjectiveTest, AFreshModelPredictsNoNoiseAndNoFeature) {
  const auto made = make();
  const auto [sums, counts] = step_sums(*made, 0);
  // A loss of 1 for each element of the noise.
  EXPECT_NEAR(sums[0] / counts[0], 1.0, 0.2);
}

TEST_F(WorldModelObjectiveTest, WithoutOneKindsLossAllGradientsThatTheMaskKeepsFromItAreTheSame) {
  const auto with = gradients({});
  const auto without = gradients({kWeights + "dynamic=0"});
  int compared = 0;
  for (const auto& [name, gradient] : with) {
    if (name.starts_with("dream_dynamic.")) {
      EXPECT_TRUE(gradient.defined()) << name;
      EXPECT_FALSE(without.at(name).defined()) << name << " has a gradient without its loss";
      continue;
    }
    const bool is_apart = name.starts_with("dream_semantic.") || name.starts_with("dream_depth.") ||
                          name.starts_with("dream_trajectory.") || name.starts_with("action") ||
                          name == "dream_queries.semantic" || name == "dream_queries.depth" ||
                          name == "dream_queries.trajectory";
    if (!is_apart) continue;
    ASSERT_TRUE(gradient.defined()) << name;
    EXPECT_TRUE(torch::equal(gradient, without.at(name))) << name;
    ++compared;
  }
  EXPECT_GT(compared, 40);
}

TEST_F(WorldModelObjectiveTest, NoDreamLearnsFromAnotherKindsLoss) {
  const auto found = gradients({kWeights + "action=0", kWeights + "depth=0",
                                kWeights + "semantic=0", kWeights + "trajectory=0"});
  EXPECT_GT(found.at("dream_queries.dynamic").abs().max().item<double>(), 0);
  for (const char* other : {"dream_queries.depth", "dream_queries.semantic",
                            "dream_queries.trajectory", "action_queries.action"}) {
    const at::Tensor& gradient = found.at(other);
    EXPECT_TRUE(!gradient.defined() || gradient.eq(0).all().item<bool>()) << other;
  }
}

// Every step of an episode that is shorter than a window, alone and as the beginning of a longer.
TEST_F(WorldModelObjectiveTest, StepsThatDoNotExistOrComeLaterMakeNoDifference) {
  const auto made = make();
  WorldModel& model = made->model();
  const EpisodeSet& set = made->things.episodes("sums", "train");
  int64_t longest = 0;
  while (set.steps(longest) < 4) ++longest;
  const WindowBatch whole = read_windows(set, model, {{longest, 0}}, 1);
  ASSERT_EQ(whole.steps(), 3);
  WorldInputs cut = whole.inputs;
  cut.images = cut.images.narrow(0, 0, 2);
  cut.state = cut.state.narrow(0, 0, 2);
  cut.steps = cut.steps.narrow(0, 0, 2);
  const torch::NoGradGuard no_gradient;
  WorldNetwork& network = model.network();
  const at::Tensor full = network->action_rows(network->hidden(whole.inputs, model.layout()),
                                               whole.inputs, model.layout());
  const at::Tensor part_of_it =
      network->action_rows(network->hidden(cut, model.layout()), cut, model.layout());
  EXPECT_TRUE(torch::allclose(full.narrow(0, 0, 2), part_of_it, 1e-5, 1e-6));
  EXPECT_FALSE(torch::allclose(full[0], full[1], 1e-3, 1e-3));
}

TEST_F(WorldModelObjectiveTest, ActionsBehindTheEndOfAnEpisodeDoNotCount) {
  const auto made = make();
  const EpisodeSet& set = made->things.episodes("sums", "train");
  ASSERT_EQ(set.steps(0), 2);
  const WindowBatch batch = read_windows(set, made->model(), {{0, 0}}, 5);
  EXPECT_TRUE(torch::equal(batch.counted, torch::tensor({{1.F, 1.F}, {1.F, 0.F}})));
  EXPECT_TRUE(torch::equal(batch.actions[1][0], batch.actions[1][1]));
  EXPECT_EQ(batch.future_steps, (std::vector<int64_t>{1, 1})) << "the last frame, at most";
  EXPECT_TRUE(torch::equal(batch.previous[0], torch::zeros({2})));
  EXPECT_TRUE(torch::equal(batch.previous[1], batch.actions[0][0]));
}

TEST_F(WorldModelObjectiveTest, WindowsBeginWhereverTheyFitOrLieSideBySide) {
  const auto made = make();
  const EpisodeSet& set = made->things.episodes("sums", "train");
  const EpisodeWindows every(set, 3, EpisodeWindows::Order::kEveryStart);
  const EpisodeWindows side(set, 3, EpisodeWindows::Order::kSideBySide);
  int64_t fits = 0, steps = 0;
  for (int64_t e = 0; e < set.size(); ++e) fits += std::max<int64_t>(1, set.steps(e) - 2);
  for (int64_t i = 0; i < side.size(); ++i) {
    steps += std::min<int64_t>(3, set.steps(side.at(i).episode) - side.at(i).first);
  }
  EXPECT_EQ(every.size(), fits);
  EXPECT_EQ(steps, set.steps()) << "each step once";
}

TEST_F(WorldModelObjectiveTest, TrajectoriesOfAnotherTimeAreRefusedWithTheSetting) {
  try {
    make({"stage.world.objectives.world_model.future=3"});
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("future = 3"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("2 steps ahead"), std::string::npos) << error.what();
  }
}

TEST_F(WorldModelObjectiveTest, TrajectoriesAreThoseOfTheWindowsSteps) {
  const auto made = make();
  const EpisodeSet& set = made->things.episodes("sums", "train");
  const WindowBatch batch = read_windows(set, made->model(), {{1, 1}}, 2);
  const Episode episode = set.read(1);
  // Right and down of 2 x 2 cells, row by row; the window begins with the second step.
  const auto& moves = episode.trajectories.at(0);
  const auto stored = torch::tensor(std::vector<float>(moves.begin() + 8, moves.begin() + 16));
  EXPECT_EQ(batch.trajectories.sizes(), (std::vector<int64_t>{batch.steps(), 1, 2, 2, 2}));
  EXPECT_TRUE(torch::equal(batch.trajectories[0][0].permute({1, 2, 0}).flatten(), stored));
}

TEST_F(WorldModelObjectiveTest, EveryHeadAndKindOfLossTrains) {
  const WorldFiles discrete(/*is_discrete=*/true);
  const std::vector<std::vector<std::string>> variants = {
      {"model.world.action_head=flow"},
      {"model.world.action_head=direct"},
      {"model.world.share_query=true", "model.world.queries.depth=0",
       "model.world.queries.trajectory=0"},
      {"stage.world.objectives.world_model.semantic_loss=info_nce"},
      {"stage.world.objectives.world_model.dynamic_mean=masked",
       "stage.world.objectives.world_model.normalise_patches=false"},
      {"model.world.queries.dynamic=0", "model.world.queries.depth=0",
       "model.world.queries.semantic=0", "model.world.queries.trajectory=0"},
      {"model.world.mask_settings=[\"only_observation=true\", \"proprioception=true\"]"},
      {"model.world.decoder.depth_output=relu", "model.world.layers=0"}};
  for (const auto& sets : variants) {
    for (const WorldFiles* files : {static_cast<const WorldFiles*>(&files_), &discrete}) {
      const auto made = make(sets, files);
      for (const at::Tensor& loss : made->stage.compute(made->stage.load(0, 0))) {
        EXPECT_TRUE(std::isfinite(loss.item<double>())) << sets[0];
      }
    }
  }
}

TEST_F(WorldModelObjectiveTest, ALossWithoutWeightIsMeasuredAndTrainsNothing) {
  const auto made = make({kWeights + "depth=0"});
  const std::vector<bool> used = made->stage.groups_in_step(0);
  for (size_t g = 0; g < used.size(); ++g) {
    EXPECT_EQ(used[g], made->stage.parameter_groups()[g].name != "dream.depth");
  }
  const auto [sums, counts] = step_sums(*made, 0);
  EXPECT_EQ(made->stage.losses()[2].name, "world_model/depth");
  EXPECT_GT(sums[2], 0);
}

TEST_F(WorldModelObjectiveTest, TrainsAlikeOnOneRankAndTwoAndAfterAPause) {
  const std::vector<std::string> sets = {"log.every_steps=1",
                                         "stage.world.objectives.world_model.rollouts=0"};
  const RunConfig one = files_.config(fresh_directory("one"), sets);
  const ToyResult alone = train_toy(one, 1);
  const ToyResult both = train_toy(files_.config(fresh_directory("two"), sets), 2);
  ASSERT_EQ(alone.losses.size(), 4U);
  for (const auto& [step, loss] : alone.losses) {
    EXPECT_NEAR(loss, both.losses.at(step), 1e-3 * std::abs(loss)) << step;
  }
  const RunConfig paused = files_.config(fresh_directory("paused"), sets);
  EXPECT_EQ(train_toy(paused, 1, /*stop_after=*/2).outcome, RunOutcome::kStopped);
  EXPECT_EQ(train_toy(paused, 1).outcome, RunOutcome::kFinished);
  EXPECT_EQ(first_difference(newest_tensors(one.directory), newest_tensors(paused.directory)), "");
}

}  // namespace
}  // namespace espalier
