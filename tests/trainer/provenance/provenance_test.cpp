// A run directory remembers with what it was made: other settings are refused, extended or forked.
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "refusal.h"
#include "toy_room.h"
#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/inference.h"
#include "trainer/provenance/run_history.h"
#include "trainer/provenance/run_origin.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kSteps = 6;  // of each of the two stages

// Every checkpoint is kept.
RunConfig with_sets(const std::string& directory, std::vector<std::string> sets = {}) {
  sets.emplace_back("checkpoint.keep=10");
  return toy_config(directory, kSteps, {}, sets);
}

// Another stage behind the two, on the model of the second.
RunConfig with_third_stage(const std::string& directory) {
  std::string text = toy_toml(directory, kSteps);
  const size_t begin = text.rfind("[[stage]]");
  std::string third = text.substr(begin);
  third.replace(third.find("\"second\""), 8, "\"third\"");
  return load_run_config(write_config(text + third));
}

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A finished run.
class Provenance : public testing::Test {
 protected:
  void SetUp() override { train_toy(config_, 1, -1, {.commit = "abc"}); }
  std::string run() const { return config_.directory; }

  RunConfig config_ = with_sets(fresh_directory("run"));
};

TEST_F(Provenance, IsWrittenOnceForStartsThatAreAlike) {
  train_toy(config_, 2, -1, {.commit = "abc"});
  const auto history = read_history(run());
  ASSERT_EQ(history.size(), 1u);
  EXPECT_EQ(history[0].at("event"), "begun");
  EXPECT_EQ(history[0].at("commit"), "abc");
  EXPECT_EQ(history[0].at("config"), "history/config-0001.toml");
  EXPECT_TRUE(history[0].at("parent").is_null());
  EXPECT_EQ(read_file(run() + "/history/config-0001.toml"), read_file(run() + "/config.toml"));
}

TEST_F(Provenance, ChangesThatShapeTheResultAreRefusedByKeyWithTheRemedy) {
  const RunConfig other = with_sets(run(), {"stage.second.optimizer.learning_rate=0.5", "seed=9"});
  const std::string before = read_file(run() + "/config.toml");
  for (const std::string& said :
       {refusal([&] { train_toy(other, 2); }), refusal([&] { check_origin(other, false, ""); }),
        refusal([&] { train_toy(other, 1, -1, {.extends = true}); })}) {
    EXPECT_NE(said.find("seed: was 5, is 9"), std::string::npos) << said;
    EXPECT_NE(said.find("stage.second.optimizer.learning_rate: was"), std::string::npos) << said;
    EXPECT_NE(said.find("--fork-from " + run() + "@12"), std::string::npos) << said;
  }
  EXPECT_EQ(read_file(run() + "/config.toml"), before);
  EXPECT_EQ(read_history(run()).size(), 1u);
}

TEST_F(Provenance, WhatDoesNotShapeTheResultIsFree) {
  const RunConfig other =
      with_sets(run(), {"checkpoint.every_steps=3", "log.every_steps=2", "evaluation.every_steps=3",
                        "compute.prefetch=3", "deadline.setup=900"});
  train_toy(other, 1, -1, {.commit = "abc"});
  const auto history = read_history(run());
  ASSERT_EQ(history.size(), 2u);
  EXPECT_EQ(history[1].at("event"), "changed");
  EXPECT_TRUE(history[1].at("changes").empty());
  EXPECT_EQ(read_file(run() + "/history/config-0002.toml"), read_file(run() + "/config.toml"));
}

TEST_F(Provenance, AFinishedRunGoesOnWithMoreStepsWhenItIsExtended) {
  const RunConfig longer = with_sets(run(), {"stage.second.steps=10"});
  const std::string said = refusal([&] { train_toy(longer, 1); });
  EXPECT_NE(said.find("stage.second.steps: was 6, is 10"), std::string::npos) << said;
  EXPECT_NE(said.find("--extend goes on"), std::string::npos) << said;
  const TensorMap before = newest_tensors(run());
  const ToyResult result = train_toy(longer, 2, -1, {.extends = true});
  EXPECT_EQ(result.outcome, RunOutcome::kFinished);
  EXPECT_EQ(result.losses.begin()->first, 13);
  EXPECT_EQ(result.losses.rbegin()->first, 16);
  const json last = read_history(run()).back();
  EXPECT_EQ(last.at("event"), "extended");
  EXPECT_EQ(last.at("step"), 12);
  EXPECT_EQ(last.at("changes").at(0).at("key"), "stage.second.steps");
  // The first stage is what it was; and what was there before the extension can still be asked.
  EXPECT_TRUE(newest_tensors(run())
                  .at("model/one/trunk.weight")
                  .equal(before.at("model/one/trunk.weight")));
  EXPECT_EQ(load_for_inference({.run = run(), .checkpoint = {.step = 12}}).checkpoint.step, 12);
  EXPECT_TRUE(train_toy(longer, 1).losses.empty());  // and now it is finished
}

TEST_F(Provenance, AnExtensionThatIsStoppedResumesBitForBit) {
  const auto extended = [](const std::string& directory, int64_t stop_after) {
    train_toy(with_sets(directory), 1);
    const RunConfig longer = with_sets(directory, {"stage.second.steps=12"});
    if (stop_after > 0) train_toy(longer, 1, stop_after, {.extends = true});
    train_toy(longer, 1, -1, {.extends = true});
    return newest_tensors(directory);
  };
  EXPECT_EQ(first_difference(extended(fresh_directory("straight"), -1),
                             extended(fresh_directory("stopped"), 3)),
            "");
}

TEST_F(Provenance, AStageBehindTheOthersIsAnExtension) {
  const RunConfig more = with_third_stage(run());
  const std::string said = refusal([&] { train_toy(more, 1); });
  EXPECT_NE(said.find("stage.third: was not there, is new"), std::string::npos) << said;
  const ToyResult result = train_toy(more, 1, -1, {.extends = true});
  EXPECT_EQ(result.losses.begin()->first, 13);
  EXPECT_EQ(result.losses.rbegin()->first, 18);
}

TEST_F(Provenance, AStageThatOthersBuildOnCannotBecomeLonger) {
  const RunConfig longer = with_sets(run(), {"stage.first.steps=8"});
  const std::string said = refusal([&] { train_toy(longer, 1, -1, {.extends = true}); });
  EXPECT_NE(said.find("stage.first.steps: was 6, is 8"), std::string::npos) << said;
}

TEST_F(Provenance, AForkBeginsWithTheWeightsOfItsParentAndSaysSo) {
  const std::string fork = fresh_directory("fork");
  const RunConfig other = with_sets(fork, {"stage.first.optimizer.learning_rate=0"});
  const RunOptions options = {.fork_from = run() + "@6", .commit = "def"};
  // No step changes the weights of the first stage, so they are the parent's.
  train_toy(other, 2, 3, options);
  EXPECT_TRUE(newest_tensors(fork)
                  .at("model/one/trunk.weight")
                  .equal(load_for_inference({.run = run(), .checkpoint = {.step = 6}})
                             .checkpoint.tensors.at("model/one/trunk.weight")));
  const json first = read_history(fork).at(0);
  EXPECT_EQ(first.at("event"), "forked");
  EXPECT_EQ(first.at("commit"), "def");
  EXPECT_EQ(first.at("parent").at("run"), fs::canonical(run()).string());
  EXPECT_EQ(first.at("parent").at("step"), 6);
  EXPECT_EQ(first.at("parent").at("commit"), "abc");
  EXPECT_EQ(first.at("parent").at("config_digest"), read_history(run())[0].at("config_digest"));
  // The same command again, as after a crash, goes on.
  EXPECT_EQ(train_toy(other, 1, -1, options).losses.begin()->first, 4);
}

TEST_F(Provenance, AForkKeepsModelsThatItsStagesOnlyRead) {
  const std::string fork = fresh_directory("fork");
  std::string text = toy_toml(fork, kSteps);  // the second stage alone
  text.erase(text.find("[[stage]]"), text.rfind("[[stage]]") - text.find("[[stage]]"));
  const RunConfig config = load_run_config(write_config(text));
  train_toy(config, 1, 2, {.fork_from = run()});
  train_toy(config, 1, 2);
  EXPECT_TRUE(newest_tensors(fork)
                  .at("model/one/trunk.weight")
                  .equal(newest_tensors(run()).at("model/one/trunk.weight")));
}

TEST_F(Provenance, AForkNeedsADirectoryOfItsOwnAndAParentWithModelsOfTheseNames) {
  const auto fork = [&](const RunConfig& config, const std::string& from) {
    return refusal([&] { train_toy(config, 1, -1, {.fork_from = from}); });
  };
  EXPECT_NE(fork(config_, run()).find("a directory of its own"), std::string::npos);
  const RunConfig other = toy_config(fresh_directory("fork"), kSteps);
  EXPECT_NE(fork(other, run() + "@7").find("steps 4, 6, 10, 12"), std::string::npos);
  EXPECT_NE(fork(other, run() + "@x").find("RUN@120"), std::string::npos);
  EXPECT_NE(fork(other, "/nowhere").find("not a run directory"), std::string::npos);
  std::string text = toy_toml(fresh_directory("renamed"), kSteps);
  for (const char* name : {"one", "two"}) {
    for (size_t at = 0; (at = text.find(name, at)) != std::string::npos; at += 6) {
      text.insert(at, "new");
    }
  }
  const RunConfig renamed = load_run_config(write_config(text));
  EXPECT_NE(fork(renamed, run()).find("has one, two"), std::string::npos);
}

TEST(SettingsChange, SettingsThatCameOrWentWithTheProgramAreNoChangeAndTablesAre) {
  const RunConfig config = toy_config(fresh_directory("run"), kSteps);
  json before = config.values;
  EXPECT_TRUE(result_changes(before, config).empty());
  before.erase("stage.first.optimizer.beta1");  // the program did not have it yet
  before["stage.first.optimizer.old"] = 3;      // and has this no more
  EXPECT_TRUE(result_changes(before, config).empty());
  before["teacher.old.kind"] = "x";
  ASSERT_EQ(result_changes(before, config).size(), 1u);
  EXPECT_EQ(text_of(result_changes(before, config)[0]), "teacher.old: was there, is gone");
}

TEST(SettingsChange, WhatIsEvaluatedShapesTheResultWhereAStageMayEndEarly) {
  RunConfig config = toy_config(fresh_directory("run"), kSteps);
  json before = config.values;
  before["evaluation.max_samples"] = 3;
  EXPECT_TRUE(result_changes(before, config).empty());
  config.stages[1].early_stop_patience = 2;
  EXPECT_EQ(result_changes(before, config).size(), 1u);
}

}  // namespace
}  // namespace espalier
