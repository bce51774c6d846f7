// What a run does when its disk takes no more, and when it does again.
#include <sys/resource.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "comm/transport/thread_communicator.h"
#include "small_disk.h"
#include "toy_room.h"
#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/checkpoint/checkpointer.h"
#include "trainer/errors.h"
#include "trainer/record/metrics.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

TensorMap tensors_with(int64_t numbers) {
  return {{"a", torch::arange(numbers).to(at::kFloat)}, {"b", torch::ones({3})}};
}

// Allows no file of this process to grow beyond `bytes`; no limit where it is not given.
void limit_files(std::optional<rlim_t> bytes) {
  rlimit limit{};
  ::getrlimit(RLIMIT_FSIZE, &limit);
  limit.rlim_cur = bytes.value_or(limit.rlim_max);
  ::setrlimit(RLIMIT_FSIZE, &limit);
}

// In a process of its own: the limit is one of all its threads.
[[noreturn]] void save_within_a_limit(const std::string& root) {
  fs::create_directories(root);
  run_ranks(2, [&](Communicator& comm) {
    RunObserver observer;
    std::vector<json> events;
    Checkpointer saver(comm, observer, {root, 2, 1}, [&](const json& e) { events.push_back(e); });
    saver.start(tensors_with(1000), {}, 4);
    saver.finish();
    comm.barrier();
    if (comm.rank() == 0) limit_files(100 << 10);
    comm.barrier();
    saver.start(tensors_with(1 << 18), {}, 8);
    EXPECT_THROW(saver.finish(), StorageError);
    EXPECT_EQ(saver.last_step(), 4);
    comm.barrier();
    if (comm.rank() == 0) {
      limit_files({});
      EXPECT_EQ(events.back().at("event"), "checkpoint_failed");
      const std::string reason = events.back().at("reason");
      EXPECT_NE(reason.find("File too large"), std::string::npos) << reason;
      EXPECT_EQ(std::distance(fs::directory_iterator(root), {}), 1) << "left-overs";
      EXPECT_EQ(find_damage(root + "/step-0000000004"), "");
    }
    comm.barrier();
    saver.start(tensors_with(1000), {}, 12);
    saver.finish();
    EXPECT_EQ(saver.last_step(), 12);
  });
  fs::remove_all(fs::path(root).parent_path().parent_path());
  std::_Exit(::testing::Test::HasFailure() ? 1 : 0);
}

TEST(FullDisk, FileThatCannotBeWrittenWholeFailsTheSaveOnly) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // started anew, not forked with threads
  EXPECT_EXIT(save_within_a_limit(fresh_directory("checkpoints")), ::testing::ExitedWithCode(0),
              "");
}

// Fills the disk when one checkpoint is committed, and makes room at a later step.
class DiskTrouble : public RunObserver {
 public:
  DiskTrouble(const std::string& directory, int64_t full_after_commit, int64_t free_at)
      : directory_(directory), full_after_commit_(full_after_commit), free_at_(free_at) {}
  void on_step(const StepReport& report) override {
    if (report.global_step == free_at_) filler.reset();
  }
  void on_checkpoint_failed(int64_t step, const std::string& why) override { failed[step] = why; }
  void on_committed(int64_t step) override {
    committed.push_back(step);
    if (step == full_after_commit_) filler.emplace(directory_);
  }

  std::optional<DiskFiller> filler;
  std::map<int64_t, std::string> failed;
  std::vector<int64_t> committed;

 private:
  std::string directory_;
  int64_t full_after_commit_, free_at_;
};

RunConfig config_on(const std::string& disk) { return toy_config(disk + "/run", 20); }

RunOutcome train_with(const RunConfig& config, DiskTrouble& observer, int world) {
  RunOutcome outcome = RunOutcome::kFinished;
  run_ranks(world, [&](Communicator& comm) {
    RunObserver silent;
    const bool is_first = comm.rank() == 0;
    const auto mine =
        run_training(config, comm, is_first ? static_cast<RunObserver&>(observer) : silent);
    if (is_first) outcome = mine;
  });
  return outcome;
}

TEST(FullDisk, FailsSavesAndLinesButNotTheRunAndAllComesBackWithTheSpace) {
  const auto body = [](const std::string& disk) {
    const RunConfig config = config_on(disk);
    DiskTrouble observer(disk, 4, 26);
    EXPECT_EQ(train_with(config, observer, 2), RunOutcome::kFinished);
    EXPECT_GE(observer.failed.size(), 3u);
    EXPECT_NE(observer.failed.begin()->second.find("space"), std::string::npos)
        << observer.failed.begin()->second;
    ASSERT_FALSE(observer.committed.empty());
    EXPECT_EQ(observer.committed.front(), 4);
    EXPECT_EQ(observer.committed.back(), 40);
    std::ifstream lines(config.directory + "/metrics.jsonl");
    int64_t last = 0;
    for (std::string text; std::getline(lines, text);) {
      const json line = json::parse(text, nullptr, false);
      ASSERT_FALSE(line.is_discarded()) << text;
      last = line.at("global_step");
    }
    EXPECT_EQ(last, 40);
    std::ifstream file(config.directory + "/run.json");
    const json state = json::parse(file);
    EXPECT_EQ(state.at("state"), "finished");
    EXPECT_TRUE(state.at("failed_checkpoint").is_null());
  };
  if (!on_small_disk(8 << 20, body)) GTEST_SKIP() << "this process may not mount a file system";
}

TEST(FullDisk, RunThatGoesOnFromACheckpointStartsTrainsAndSaysWhatFails) {
  const auto body = [](const std::string& disk) {
    const RunConfig config = config_on(disk);
    train_toy(config, 2, 10);
    DiskTrouble observer(disk, -1, 26);
    observer.filler.emplace(disk);
    EXPECT_EQ(train_with(config, observer, 2), RunOutcome::kFinished);
    ASSERT_FALSE(observer.failed.empty());
    EXPECT_EQ(observer.failed.begin()->first, 12);
    EXPECT_EQ(observer.committed.back(), 40);
  };
  if (!on_small_disk(8 << 20, body)) GTEST_SKIP() << "this process may not mount a file system";
}

// A state that cannot be saved has to be said at the end, too: it is the result.
TEST(FullDisk, RunWhoseLastCheckpointFailsEndsWithAStorageError) {
  const auto body = [](const std::string& disk) {
    DiskTrouble observer(disk, 28, -1);
    EXPECT_THROW(train_with(config_on(disk), observer, 2), StorageError);
  };
  if (!on_small_disk(8 << 20, body)) GTEST_SKIP() << "this process may not mount a file system";
}

TEST(FullDisk, SaysInTheStateOfTheRunThatSavesFail) {
  struct RefusesSome : RunObserver {
    bool approve_commit(int64_t step) override { return step != 8 && step != 12; }
    void on_step(const StepReport& report) override {
      std::ifstream file(run + "/run.json");
      at_step[report.global_step] = json::parse(file, nullptr, false).at("failed_checkpoint");
    }
    std::string run;
    std::map<int64_t, json> at_step;
  } observer;
  const RunConfig config = toy_config(fresh_directory("run"), 20);
  observer.run = config.directory;
  run_ranks(1, [&](Communicator& comm) { run_training(config, comm, observer); });
  EXPECT_TRUE(observer.at_step.at(7).is_null());
  EXPECT_EQ(observer.at_step.at(13).at("event"), "checkpoint_failed");  // 8, or 12 already
  std::ifstream file(config.directory + "/run.json");
  EXPECT_TRUE(json::parse(file).at("failed_checkpoint").is_null());
}

}  // namespace
}  // namespace espalier
