#include "trainer/validation.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <mutex>

#include <gtest/gtest.h>

#include "comm/transport/thread_communicator.h"
#include "toy_room.h"
#include "trainer/best_metric.h"
#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::map<std::string, double> measured_on(int world) {
  RunConfig config = toy_config(fresh_directory("run"), 4);
  fs::create_directories(config.directory);
  std::map<std::string, double> result;
  run_ranks(world, [&](Communicator& comm) {
    NamedThings things(config, comm, at::kCPU);
    Stage stage(things, config.stages[0], /*for_training=*/true);
    Validation validation(things, stage);
    const auto first = validation.measure(0);
    EXPECT_EQ(validation.measure(0), first);
    if (comm.rank() == 0) result = first;
  });
  return result;
}

TEST(Validation, IsTheSameEveryTimeAndOnAnyNumberOfRanks) {
  const auto one = measured_on(1);
  EXPECT_EQ(one.size(), 3U);
  EXPECT_DOUBLE_EQ(one.at("validation/total"),
                   one.at("validation/left") + 0.5 * one.at("validation/right"));
  EXPECT_EQ(measured_on(2), one);
  EXPECT_EQ(measured_on(3), one);
}

RunConfig watching(const std::string& name, const std::vector<std::string>& more = {}) {
  std::vector<std::string> sets = {"evaluation.every_steps=2",
                                   "checkpoint.best=\"validation/left\"", "checkpoint.keep=1"};
  sets.insert(sets.end(), more.begin(), more.end());
  return toy_config(fresh_directory(name), 12, {}, sets);
}

std::vector<json> history_of(const RunConfig& config, const std::string& stage) {
  std::vector<json> lines;
  std::ifstream file(config.directory + "/evaluation/history.jsonl");
  for (std::string line; std::getline(file, line);) {
    json entry = json::parse(line);
    if (entry.at("stage") == stage && !entry.at("validation").empty()) lines.push_back(entry);
  }
  return lines;
}

TEST(BestCheckpoint, IsKeptBesideTheNewestAndIsThatOfTheLowestLoss) {
  const RunConfig config = watching("run");
  train_toy(config, 2);
  const auto lines = history_of(config, "second");
  ASSERT_EQ(lines.size(), 6U);  // steps 2 to 10, and the end
  const auto best = std::min_element(lines.begin(), lines.end(), [](const json& a, const json& b) {
    return a["validation"]["validation/left"] < b["validation"]["validation/left"];
  });
  const std::string root = config.directory + "/checkpoints";
  EXPECT_EQ(best_checkpoint(root), checkpoint_name(best->at("global_step")));
  EXPECT_EQ(find_damage(root + "/" + best_checkpoint(root)), "");
}

TEST(BestCheckpoint, IsTheSameWhereTheRunWasStoppedAndWentOn) {
  const RunConfig straight = watching("straight"), resumed = watching("resumed");
  train_toy(straight, 1);
  train_toy(resumed, 1, 5);
  train_toy(resumed, 1);
  EXPECT_EQ(best_checkpoint(resumed.directory + "/checkpoints"),
            best_checkpoint(straight.directory + "/checkpoints"));
}

TEST(EarlyStop, EndsTheStageAsFinishedAfterSoManyEvaluationsWithoutImprovement) {
  const RunConfig config = watching(
      "run", {"stage.first.optimizer.learning_rate=0", "stage.first.early_stop_patience=2"});
  EXPECT_EQ(train_toy(config, 2).outcome, RunOutcome::kFinished);
  const auto events = read_events(config.directory);
  const auto stopped = std::find_if(events.begin(), events.end(), [](const json& event) {
    return event.at("event") == "stopped_early";
  });
  ASSERT_NE(stopped, events.end());
  EXPECT_EQ(stopped->at("stage"), "first");
  EXPECT_EQ(stopped->at("stage_step").get<int64_t>() - stopped->at("best_step").get<int64_t>(), 4);
  EXPECT_TRUE(fs::exists(config.directory + "/evaluation/second.json"));
  EXPECT_TRUE(train_toy(config, 2).losses.empty());  // nothing is left to do
}

std::string refusal(const std::vector<std::string>& sets) {
  try {
    toy_config(fresh_directory("run"), 12, {}, sets);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(BestMetric, ThatNobodyMeasuresIsRefusedWithTheNamesThereAre) {
  const std::string text =
      refusal({"evaluation.every_steps=2", "checkpoint.best=\"validation/middle\""});
  EXPECT_NE(text.find("validation/left"), std::string::npos) << text;
  EXPECT_NE(refusal({"checkpoint.best=\"validation/left\""}).find("evaluation.every_steps"),
            std::string::npos);
  EXPECT_THROW(train_toy(watching("run", {"checkpoint.best=\"left/no_such\""}), 2), ConfigError);
}

}  // namespace
}  // namespace espalier
