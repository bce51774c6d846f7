// What a world model is judged by: held-out episodes, and what it does in a simulator.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <thread>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "comm/transport/single_communicator.h"
#include "comm/transport/thread_communicator.h"
#include "toy_room.h"
#include "trainer/named/named_things.h"
#include "trainer/stage.h"
#include "world_things.h"

namespace espalier {
namespace {

class WorldModelEvaluation : public ::testing::Test {
 protected:
  struct Made {
    Made(const RunConfig& config, Communicator& comm)
        : things(config, comm, at::kCPU, /*for_training=*/false),
          stage(things, config.stages[0], /*for_training=*/false) {}
    NamedThings things;
    Stage stage;
  };

  RunConfig config(const std::vector<std::string>& sets = {}) const {
    return files_.config(fresh_directory("run"), sets);
  }
  Section evaluate(const RunConfig& config, bool is_final = true) {
    Made made(config, *comm_);
    return made.stage.evaluate(request(is_final)).at(0);
  }
  EvaluationRequest request(bool is_final = true) const {
    std::filesystem::create_directories(directory_);
    return {.directory = directory_,
            .picture_prefix = "world-",
            .is_final = is_final,
            .split = is_final ? "test" : "validation"};
  }
  static const Metric* metric(const Section& section, const std::string& name) {
    const auto found = std::find_if(section.metrics.begin(), section.metrics.end(),
                                    [&](const Metric& each) { return each.name == name; });
    return found == section.metrics.end() ? nullptr : &*found;
  }
  static bool has_picture(const Section& section, const std::string& name) {
    return std::any_of(section.pictures.begin(), section.pictures.end(), [&](const Picture& each) {
      return each.name == name && std::filesystem::exists(each.path);
    });
  }

  WorldFiles files_;
  std::string directory_ = fresh_directory("pictures");
  std::unique_ptr<Communicator> comm_ = make_single_communicator();
};

TEST_F(WorldModelEvaluation, HasBaselinesAndPicturesAndAsksNoSimulatorBeforeTheEnd) {
  const Section section =
      evaluate(config({"episodes.sums.python=/nowhere/at/all"}), /*is_final=*/false);
  for (const char* name :
       {"action_rmse", "dynamic_error", "depth_error", "semantic_cosine", "trajectory_error"}) {
    const Metric* found = metric(section, name);
    ASSERT_NE(found, nullptr) << name;
    EXPECT_TRUE(std::isfinite(found->value)) << name;
    EXPECT_EQ(found->baselines.size(), 2U) << name;
    for (const Baseline& each : found->baselines) EXPECT_TRUE(std::isfinite(each.value)) << name;
  }
  EXPECT_EQ(metric(section, "success_rate"), nullptr);
  ASSERT_EQ(section.series.size(), 1U);
  EXPECT_EQ(section.series[0].places,
            (std::vector<std::string>{"action", "dynamic", "depth", "semantic", "trajectory"}));
  EXPECT_TRUE(has_picture(section, "dreams"));
  EXPECT_TRUE(section.tables.empty());
}

// The actions of the test's episodes take turns: the mean is wrong by 1/2 of each, the action
// before by 1, wherever there is one.
TEST_F(WorldModelEvaluation, BaselinesAreWhatTheyAreCalled) {
  const WorldFiles discrete(/*is_discrete=*/true);
  const Section section = evaluate(
      discrete.config(fresh_directory("run"), {"stage.world.objectives.world_model.rollouts=0"}));
  const Metric* found = metric(section, "action_accuracy");
  ASSERT_NE(found, nullptr);
  // 4 and 6 steps; the most frequent action of the index is the second.
  EXPECT_DOUBLE_EQ(found->baselines[0].value, 0.5);
  EXPECT_DOUBLE_EQ(found->baselines[1].value, 0.0) << "the actions take turns";
}

TEST_F(WorldModelEvaluation, ActsInTheSimulatorBesideRandomActionsAndTheExpertOnTheSameSeeds) {
  const Section section = evaluate(config());
  const Metric* found = metric(section, "success_rate");
  ASSERT_NE(found, nullptr);
  EXPECT_TRUE(found->is_headline);
  EXPECT_GE(found->value, 0);
  ASSERT_EQ(found->baselines.size(), 2U);
  // Seeds 1000, 1001, 1002: the simulator's random actions succeed with even ones, its expert
  // always.
  EXPECT_NEAR(found->baselines[0].value, 2.0 / 3.0, 1e-6);
  EXPECT_NEAR(found->baselines[1].value, 1.0, 1e-6);
  EXPECT_NE(metric(section, "success_rate_Push"), nullptr);
  ASSERT_EQ(section.tables.size(), 1U);
  EXPECT_EQ(section.tables[0].rows.size(), 3U);
  EXPECT_TRUE(has_picture(section, "success") || has_picture(section, "failure"));
}

TEST_F(WorldModelEvaluation, DoesNotDependOnTheNumberOfRanks) {
  const RunConfig run = config({"stage.world.objectives.world_model.ensemble=true"});
  const Section expected = evaluate(run);
  auto ranks = make_thread_communicators(2);
  Made mine(run, *ranks[0]), other(run, *ranks[1]);
  std::thread helper([&] { other.stage.evaluate(request()); });
  const Section got = mine.stage.evaluate(request()).at(0);
  helper.join();
  const auto numbers = numbers_of(got), wanted = numbers_of(expected);
  ASSERT_EQ(numbers.size(), wanted.size());
  for (size_t i = 0; i < numbers.size(); ++i) {
    EXPECT_EQ(numbers[i].first, wanted[i].first);
    EXPECT_NEAR(numbers[i].second, wanted[i].second, 1e-4 * std::abs(wanted[i].second) + 1e-6)
        << numbers[i].first;
  }
}

TEST_F(WorldModelEvaluation, ASimulatorThatDiesCostsTheSuccessRatesAndNothingElse) {
  const RunConfig run = config({"episodes.sums.arguments=[\"--size=8\", \"--fault=dies\"]"});
  auto ranks = make_thread_communicators(2);
  Made mine(run, *ranks[0]), other(run, *ranks[1]);
  std::thread helper([&] { other.stage.evaluate(request()); });
  const Section section = mine.stage.evaluate(request()).at(0);
  helper.join();
  EXPECT_EQ(metric(section, "success_rate"), nullptr);
  EXPECT_NE(metric(section, "action_rmse"), nullptr);
  ASSERT_EQ(section.tables.size(), 1U);
  EXPECT_NE(section.tables[0].rows[0][0].find("the simulator has lost its mind"), std::string::npos)
      << section.tables[0].rows[0][0];
}

TEST_F(WorldModelEvaluation, ARunGoesToItsEndWithoutItsSimulator) {
  const RunConfig run = config({"episodes.sums.python=/nowhere/at/all"});
  EXPECT_EQ(train_toy(run, 2).outcome, RunOutcome::kFinished);
  const Section section = evaluate(run);
  ASSERT_EQ(section.tables.size(), 1U);
  EXPECT_NE(section.tables[0].rows[0][0].find("/nowhere/at/all"), std::string::npos);
}

TEST_F(WorldModelEvaluation, ASimulatorOfOtherPicturesIsRefused) {
  const Section section = evaluate(config({"episodes.sums.arguments=--size=4"}));
  ASSERT_EQ(section.tables.size(), 1U);
  EXPECT_NE(section.tables[0].rows[0][0].find("other views or sizes"), std::string::npos);
}

}  // namespace
}  // namespace espalier
