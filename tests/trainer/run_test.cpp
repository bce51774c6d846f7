#include "trainer/run.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include <gtest/gtest.h>

#include "comm/transport/single_communicator.h"
#include "comm/transport/thread_communicator.h"
#include "data/errors.h"
#include "toy_room.h"
#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/dry_run.h"
#include "trainer/errors.h"
#include "trainer/inference.h"
#include "trainer/record/metrics.h"
#include "trainer/record/run_directory.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

int64_t count_events(const RunConfig& config, const std::string& name) {
  const auto events = read_events(config.directory);
  return std::count_if(events.begin(), events.end(),
                       [&](const auto& event) { return event.at("event") == name; });
}

TEST(Run, LeavesEverythingInItsDirectory) {
  RunConfig config = toy_config(fresh_directory("run"), 6);
  config.evaluation.every_steps = 3;
  const ToyResult result = train_toy(config, 2);
  EXPECT_EQ(result.outcome, RunOutcome::kFinished);
  for (const char* name :
       {"config.toml", "run.json", "metrics.jsonl", "events.jsonl", "evaluation/first.json",
        "evaluation/second.json", "evaluation/history.jsonl", "images/first-0000006-left-grey.png",
        "images/second-0000006-right-grey.png", "checkpoints/step-0000000012/manifest.json"}) {
    EXPECT_TRUE(fs::exists(config.directory + "/" + name)) << name;
  }
  EXPECT_FALSE(fs::is_empty(config.directory + "/tensorboard"));
  EXPECT_EQ(read_metrics(config.directory).size(), 12u);
  for (const char* event : {"started", "stage_started", "checkpoint_committed", "evaluation",
                            "stage_finished", "finished"}) {
    EXPECT_GT(count_events(config, event), 0) << event;
  }
}

TEST(Run, LossFallsAndDoesNotDependOnTheNumberOfRanks) {
  const ToyResult one = train_toy(toy_config(fresh_directory("1"), 40), 1);
  // Step 1 has no slot of the right branch yet.
  const auto mean = [&](int64_t first, int64_t last) {
    double sum = 0;
    for (int64_t step = first; step <= last; ++step) sum += one.losses.at(step);
    return sum / static_cast<double>(last - first + 1);
  };
  EXPECT_LT(mean(31, 40), 0.7 * mean(2, 6));
  for (const int world : {2, 3}) {
    const ToyResult other = train_toy(toy_config(fresh_directory("n"), 40), world);
    for (const auto& [step, loss] : one.losses) {
      EXPECT_NEAR(other.losses.at(step), loss, 2e-5 * loss) << world << " ranks, step " << step;
    }
  }
}

TEST(Run, MixedPrecisionTrainsCloseToFullPrecision) {
  RunConfig config = toy_config(fresh_directory("fp32"), 20);
  const ToyResult full = train_toy(config, 1);
  config.directory = fresh_directory("bf16");
  for (StageConfig& stage : config.stages) stage.precision = "bf16";
  const ToyResult mixed = train_toy(config, 1);
  EXPECT_NE(mixed.losses, full.losses);
  for (const auto& [step, loss] : full.losses) {
    EXPECT_NEAR(mixed.losses.at(step), loss, 0.05 * loss + 0.01) << "step " << step;
  }
}

// What is fast is measured, and another processor may say otherwise: the run must not turn with it.
TEST(Run, GoesOnInThePrecisionThatAutoBeganWith) {
  for (const std::string begun : {"bf16", "fp32"}) {
    RunConfig config = toy_config(fresh_directory("auto-" + begun), 2);
    fs::create_directories(config.directory);
    std::ofstream(config.directory + "/run.json") << R"({"auto_precision": ")" << begun << "\"}";
    for (StageConfig& stage : config.stages) stage.precision = "auto";
    train_toy(config, 2);
    for (const auto& event : read_events(config.directory)) {
      if (event.at("event") != "stage_started") continue;
      EXPECT_EQ(event.at("precision"), begun);
    }
    EXPECT_GT(count_events(config, "stage_started"), 0);
  }
}

TEST(Run, StepWithoutFiniteLossIsSkippedOnAllRanks) {
  const RunConfig config = toy_config(fresh_directory("run"), 6, {.bad_steps = {2, 3}});
  const ToyResult result = train_toy(config, 2);
  EXPECT_EQ(result.outcome, RunOutcome::kFinished);
  int64_t skipped = 0;
  for (const auto& line : read_metrics(config.directory)) skipped += line.at("skipped") == true;
  EXPECT_EQ(skipped, 4);  // two in each stage
  EXPECT_TRUE(std::isfinite(result.losses.at(12)));
}

TEST(Run, TooManyStepsWithoutFiniteLossEndItAndKeepTheGoodCheckpoint) {
  RunConfig config = toy_config(fresh_directory("run"), 20, {.bad_steps = {9, 10, 11, 12, 13}});
  config.compute.max_bad_steps = 2;
  try {
    train_toy(config, 2);
    FAIL() << "went on without finite losses";
  } catch (const DoNotRequeueError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("stage first"), std::string::npos) << text;
    EXPECT_NE(text.find("3 steps in a row, from step 9"), std::string::npos) << text;
  }
  const auto left = list_checkpoints(config.directory + "/checkpoints");
  ASSERT_FALSE(left.empty());
  EXPECT_EQ(find_damage(left.back().path), "");
  EXPECT_EQ(left.back().step, 8);
}

TEST(Run, StateThatIsNotFiniteEndsItAndIsNotSaved) {
  const RunConfig config = toy_config(fresh_directory("run"), 10, {.broken_state_at = 6});
  EXPECT_THROW(train_toy(config, 2), DoNotRequeueError);
  EXPECT_EQ(list_checkpoints(config.directory + "/checkpoints").back().step, 4);
}

TEST(Run, AConfigThatTheCheckpointRefusesLeavesTheRunAsItWas) {
  const RunConfig config = toy_config(fresh_directory("run"), 6);
  train_toy(config, 1, 4);
  RunConfig other = config;
  other.stages[0].name = "renamed";
  other.resolved = "of another run";
  EXPECT_THROW(train_toy(other, 1), ConfigError);
  EXPECT_NO_THROW(load_for_inference({.run = config.directory}));
}

TEST(Run, TheEvaluationOfAStageIsForgottenWhenItIsTrainedAgain) {
  RunConfig config = toy_config(fresh_directory("run"), 6);
  config.checkpoint.keep = 10;
  train_toy(config, 1);
  config.checkpoint.resume = config.directory + "/checkpoints/step-0000000004";
  EXPECT_EQ(train_toy(config, 1, 1).outcome, RunOutcome::kStopped);
  EXPECT_FALSE(fs::exists(config.directory + "/evaluation/first.json"));
  EXPECT_FALSE(fs::exists(config.directory + "/evaluation/second.json"));
}

TEST(Run, BatchThatDoesNotDivideIsRefusedBeforeAnythingIsWritten) {
  const RunConfig config = toy_config(fresh_directory("run"), 6);
  EXPECT_THROW(train_toy(config, 4), ConfigError);
  EXPECT_FALSE(fs::exists(config.directory));
}

TEST(Run, DirectoryThatCannotBeWrittenIsAConfigErrorOnAllRanks) {
  const std::string parent = fresh_directory("parent");
  fs::create_directories(parent);
  std::ofstream(parent + "/file") << "not a folder";
  for (const std::string& path : {parent + "/file/run", std::string("/proc/espalier/run")}) {
    try {
      train_toy(toy_config(path, 6), 2);
      FAIL() << path << " was accepted";
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find("cannot be written"), std::string::npos);
      EXPECT_NE(std::string(error.what()).find("run.directory"), std::string::npos);
    }
  }
}

TEST(Run, DirectoryInUseIsRefused) {
  const RunConfig config = toy_config(fresh_directory("run"), 6);
  const RunDirectory other(config.directory);
  try {
    train_toy(config, 1);
    FAIL() << "two trainings share a directory";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("in use"), std::string::npos);
  }
}

TEST(Run, SaveThatFailsIsReportedAndTrainingGoesOn) {
  struct RefusesFirst : RunObserver {
    bool approve_commit(int64_t step) override { return step != 4; }
  };
  const RunConfig config = toy_config(fresh_directory("run"), 6);
  const auto comm = make_single_communicator();
  RefusesFirst observer;
  EXPECT_EQ(run_training(config, *comm, observer), RunOutcome::kFinished);
  EXPECT_EQ(count_events(config, "checkpoint_failed"), 1);
  EXPECT_EQ(list_checkpoints(config.directory + "/checkpoints").back().step, 12);
}

RunConfig with_data(RunConfig config, const std::string& shard) {
  DataConfig& data = config.data.emplace_back();
  data.name = "emoji";
  data.train = {shard};
  return config;
}

// Approves nothing between two steps, as a coordinator that is away.
class Away : public RunObserver {
 public:
  Away(int64_t from, int64_t to) : from_(from), to_(to) {}
  void on_step(const StepReport& report) override {
    {
      const std::lock_guard lock(mutex_);
      step_ = report.global_step;
      changed_.notify_all();
    }
    // Steps that take as long as those of a real run beside a save.
    if (report.global_step < to_) std::this_thread::sleep_for(std::chrono::milliseconds(30));
  }
  bool is_cut_off() override { return step_ >= from_ && step_ < to_; }
  bool approve_commit(int64_t step) override {
    std::unique_lock lock(mutex_);
    if (step < from_) return true;
    return changed_.wait_for(lock, std::chrono::seconds(60), [&] { return step_ >= to_; });
  }
  void on_committed(int64_t step) override { committed.push_back(step); }
  std::vector<int64_t> committed;

 private:
  int64_t from_, to_;
  std::atomic<int64_t> step_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
};

TEST(Run, TrainsOnPastItsCheckpointsWhileNobodyApprovesThem) {
  Away observer(6, 18);
  const RunConfig config = toy_config(fresh_directory("run"), 20);  // a checkpoint every 4 steps
  run_ranks(1, [&](Communicator& comm) {
    EXPECT_EQ(run_training(config, comm, observer), RunOutcome::kFinished);
  });
  ASSERT_GE(observer.committed.size(), 4u);
  EXPECT_EQ(observer.committed[0], 4);
  EXPECT_LT(observer.committed[1], 18) << "one that waited: 8, where the disk is slow a later one";
  EXPECT_EQ(observer.committed[2], 20) << "others were due while nobody approved";
  EXPECT_EQ(observer.committed.back(), 40);
}

TEST(DryRun, ChecksEverythingAndWritesNothing) {
  const RunConfig config =
      with_data(toy_config(fresh_directory("run"), 6),
                std::string(ESPALIER_SOURCE_DIR) + "/data/emoji/emoji-32-test.tar");
  const std::string report = dry_run(config, 2);
  for (const char* part : {"stage second", "56 parameters", "trunk 40, left 8, right 8",
                           "left in 5.5 of 6 micro-batches", "memory per rank", "samples, 0 bad",
                           "emoji test: none", "free under"}) {
    EXPECT_NE(report.find(part), std::string::npos) << part << " is not in:\n" << report;
  }
  EXPECT_FALSE(fs::exists(config.directory));
}

TEST(DryRun, ThrowsWhatTheRunWouldThrow) {
  const std::string directory = fresh_directory("run");
  RunConfig config = toy_config(directory, 6);
  EXPECT_THROW(dry_run(config, 4), ConfigError);  // 12 samples, 4 ranks of 2
  EXPECT_THROW(dry_run(with_data(config, directory + "/missing.tar"), 2), DataError);
  RunConfig taught = config;
  TeacherConfig& teacher = taught.teachers.emplace_back();
  teacher.kind = "efficientnet_lite0";
  teacher.weights = directory + "/missing.safetensors";
  EXPECT_THROW(dry_run(taught, 2), ConfigError);
  RunConfig frozen = config;
  frozen.stages[1].freeze = {"no_such_thing.*"};
  EXPECT_THROW(dry_run(frozen, 2), ConfigError);
  config.directory = "/proc/espalier/run";
  EXPECT_THROW(dry_run(config, 2), ConfigError);
}

TEST(Inference, LoadsTheAveragedWeightsOfTheNewestCheckpoint) {
  const RunConfig config = toy_config(fresh_directory("run"), 6);
  train_toy(config, 1, 8);  // in the second stage
  const InferenceRun run = load_for_inference({.run = config.directory});
  EXPECT_EQ(run.checkpoint.step, 8);
  const TensorMap saved = newest_tensors(config.directory);
  EXPECT_TRUE(run.things->model("two")
                  .state()
                  .at("trunk.weight")
                  .equal(saved.at("training/second/average/model/two/trunk.weight")));
  EXPECT_TRUE(run.things->model("one")
                  .state()
                  .at("trunk.weight")
                  .equal(saved.at("model/one/trunk.weight")));
  EXPECT_THROW(caption_images(run, {}), ConfigError);
  EXPECT_THROW(load_for_inference({.run = "/nowhere"}), ConfigError);
}

TEST(Inference, TakesTheCheckpointOfAStepOrTheBest) {
  const RunConfig config = toy_config(fresh_directory("run"), 6);
  train_toy(config, 1, 8);
  EXPECT_EQ(load_for_inference({.run = config.directory, .checkpoint = {.step = 6}}).stage_index,
            0);
  EXPECT_THROW(load_for_inference({.run = config.directory, .checkpoint = {.step = 7}}),
               ConfigError);
  const InferenceRequest best = {.run = config.directory, .checkpoint = {.is_best = true}};
  EXPECT_THROW(load_for_inference(best), ConfigError);
  const std::string root = config.directory + "/checkpoints";
  mark_best(root, checkpoint_name(6));
  EXPECT_EQ(load_for_inference(best).checkpoint.step, 6);
}

TEST(Inference, EvaluatesTheStagesAndObjectivesThatAreAskedFor) {
  const RunConfig config = toy_config(fresh_directory("run"), 6);
  train_toy(config, 1, 8);
  const InferenceRun run = load_for_inference({.run = config.directory});
  const std::string pictures = config.directory + "/again";
  const auto all = evaluate_run(run, {.directory = pictures});
  ASSERT_EQ(all.size(), 2U);  // each is the last that trained its model
  EXPECT_EQ(all[0].sections.size(), 2U);
  const auto one =
      evaluate_run(run, {.stages = {"first"}, .objectives = {"right"}, .directory = pictures});
  ASSERT_EQ(one.size(), 1U);
  ASSERT_EQ(one[0].sections.size(), 1U);
  EXPECT_EQ(one[0].sections[0].name, "right");
  EXPECT_THROW(evaluate_run(run, {.stages = {"third"}, .directory = pictures}), ConfigError);
  EXPECT_THROW(evaluate_run(run, {.objectives = {"middle"}, .directory = pictures}), ConfigError);
}

}  // namespace
}  // namespace espalier
