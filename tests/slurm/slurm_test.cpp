// Real Slurm jobs, in the cluster of tests/slurm/in_cluster: two hosts, node1 and node2. Working
// directory is the root of the sources.

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "fault/program.h"
#include "launch/slurm/program_output.h"
#include "launch/slurm/slurm_job.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

constexpr double kPatience_s = 300;

std::string say(Words command) {
  return program_output(std::move(command), std::chrono::seconds(60));
}

class SlurmTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const char* cluster = std::getenv("CLUSTER");
    ASSERT_NE(cluster, nullptr) << "run it by tests/slurm/in_cluster";
    root_ = fs::path(cluster) / "runs";
    fs::create_directories(root_);
    Words command = {ESPALIER_PROGRAM, "launch", "-n", "2"};
    for (const auto& word : training("reference")) command.push_back(word);
    Program reference(command, root_ / "reference.txt");
    ASSERT_EQ(reference.wait(kPatience_s), 0) << reference.output();
  }

  void SetUp() override { name_ = testing::UnitTest::GetInstance()->current_test_info()->name(); }
  void TearDown() override {
    for (const auto& job : jobs_) say({"scancel", "--quiet", job});
    if (!HasFailure()) return;
    for (const auto& entry : fs::recursive_directory_iterator(root_)) {
      const std::string path = entry.path().string();
      const bool is_log = path.ends_with(".txt") || path.ends_with(".log");
      if (!is_log || path.find(name_) == std::string::npos) continue;
      std::printf("---- %s\n%s\n", path.c_str(), read_text(path).c_str());
    }
  }

  static fs::path run(const std::string& name) { return root_ / name; }
  static Words training(const std::string& name) {
    return {"tests/fault/tiny.toml",
            "--set",
            "stage.codes.steps=100",
            "--set",
            "stage.both.steps=10",
            "--set",
            "run.directory=" + run(name).string()};
  }

  // A job's number. `options` are sbatch's, before the script and its arguments.
  std::string submit(const Words& options, const Words& arguments) {
    Words command = {"sbatch", "--parsable", "--output=" + output(name_).string()};
    command.insert(command.end(), options.begin(), options.end());
    command.push_back("launch/slurm/train.sbatch");
    command.insert(command.end(), arguments.begin(), arguments.end());
    return submitted(say(command));
  }
  // The same for a line of shell.
  std::string submit_line(const Words& options, const std::string& line) {
    Words command = {"sbatch", "--parsable", "--output=" + output(name_).string(),
                     "--wrap=exec " + line};
    command.insert(command.end(), options.begin(), options.end());
    return submitted(say(command));
  }
  Words named(const Words& more = {}) const {
    Words arguments = training(name_);
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  std::string line_of(const Words& words) const {
    std::string line;
    for (const auto& word : words) line += " " + word;
    return line;
  }

  static SlurmJob job(const std::string& id) { return ask_slurm_job(id).value_or(SlurmJob{}); }
  // Whether the job got there in time.
  static bool reaches(const std::string& id, const std::string& state) {
    return eventually(kPatience_s, [&] { return job(id).state == state; });
  }
  static bool reaches_the_middle(const fs::path& run) {
    return eventually(kPatience_s, [&] { return newest_checkpoint(run) >= 20; });
  }
  // The hosts of the cluster have one table of processes.
  void kill_a_rank() const {
    say({"pkill", "-KILL", "--full", "--newest", "espalier train.*" + name_});
  }
  static void warn(const std::string& id) { say({"scancel", "--batch", "--signal=USR1", id}); }

  static fs::path output(const std::string& name) { return root_ / (name + ".txt"); }
  std::string said() const { return read_text(output(name_)); }
  std::string events() const { return read_text(run(name_) / "events.jsonl"); }
  std::string coordinator_log() const { return read_text(run(name_) / "logs/coordinator.log"); }

  static void expect_same_weights(const fs::path& run) {
    EXPECT_EQ(newest_checkpoint(run), newest_checkpoint(root_ / "reference"));
    EXPECT_TRUE(final_weights(run) == final_weights(root_ / "reference"));
  }

  static fs::path root_;
  std::string name_;
  Words jobs_;

 private:
  std::string submitted(std::string answer) {
    while (!answer.empty() && answer.back() == '\n') answer.pop_back();
    EXPECT_EQ(answer.find_first_not_of("0123456789"), std::string::npos) << answer;
    jobs_.push_back(answer);
    return answer;
  }
};
fs::path SlurmTest::root_;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Slurm counts limits in minutes: with one, and 52 s kept for the end, the first start has 8 s, and
// the run takes longer on any machine. No signal comes before the last of them.
TEST_F(SlurmTest, StopsBeforeTheTimeLimitIsQueuedAgainAndEndsWithTheSameWeights) {
  const Words longer = {"--set", "stage.codes.steps=800"};
  Words command = {ESPALIER_PROGRAM, "launch", "-n", "2"};
  for (const auto& word : training("longer")) command.push_back(word);
  command.insert(command.end(), longer.begin(), longer.end());
  Program reference(command, output("longer"));
  ASSERT_EQ(reference.wait(kPatience_s), 0) << reference.output();
  const std::string id = submit({"--time=1", "--signal=B:USR1@1"},
                                named({"--stop-before-limit", "52", longer[0], longer[1]}));
  ASSERT_TRUE(eventually(kPatience_s, [&] { return job(id).restarts == 1; })) << said();
  say({"scontrol", "update", "jobid=" + id, "timelimit=30"});
  ASSERT_TRUE(reaches(id, "COMPLETED")) << said();
  EXPECT_TRUE(contains(events(), "the scheduler ends this job in"));
  EXPECT_TRUE(contains(events(), "the time limit in"));
  EXPECT_TRUE(contains(said(), "Slurm job " + id + " is queued again")) << said();
  EXPECT_EQ(newest_checkpoint(run(name_)), newest_checkpoint(run("longer")));
  EXPECT_TRUE(final_weights(run(name_)) == final_weights(run("longer")));
}

// The script asks for it three minutes before the limit: within a minute of it, that is at once.
TEST_F(SlurmTest, TheSignalOfSlurmStopsARunThatThenGoesOn) {
  const std::string id = submit(
      {"--time=1"}, named({"--stop-before-limit", "1", "--set", "stage.codes.steps=100000"}));
  ASSERT_TRUE(eventually(kPatience_s, [&] { return job(id).restarts == 1; })) << said();
  say({"scontrol", "update", "jobid=" + id, "timelimit=30"});
  EXPECT_TRUE(contains(events(), "SIGUSR1"));
  const int64_t saved = newest_checkpoint(run(name_));
  EXPECT_TRUE(eventually(kPatience_s, [&] { return newest_checkpoint(run(name_)) > saved; }));
}

// Two runs; one of them is warned, and only its task may come back.
TEST_F(SlurmTest, ATaskOfAnArrayThatSlurmWarnsIsQueuedAgainAloneAndEndsWithTheSameWeights) {
  const std::string id = submit({"--array=1-2", "--time=30"}, training(name_ + "-%a"));
  const fs::path warned = run(name_ + "-2");
  ASSERT_TRUE(reaches_the_middle(warned)) << said();
  warn(id + "_2");
  ASSERT_TRUE(eventually(kPatience_s, [&] { return job(id + "_2").restarts == 1; })) << said();
  EXPECT_LT(newest_checkpoint(warned), newest_checkpoint(root_ / "reference"));
  ASSERT_TRUE(reaches(id + "_1", "COMPLETED"));
  ASSERT_TRUE(reaches(id + "_2", "COMPLETED"));
  EXPECT_EQ(job(id + "_1").restarts, 0);
  expect_same_weights(run(name_ + "-1"));
  expect_same_weights(warned);
}

TEST_F(SlurmTest, ARankThatDiesIsLaunchedAgainWithinTheJob) {
  const std::string id = submit({"--time=30"}, named());
  ASSERT_TRUE(reaches_the_middle(run(name_))) << said();
  EXPECT_TRUE(contains(coordinator_log(), "launcher: mpirun (the Slurm allocation is this node)"));
  kill_a_rank();
  ASSERT_TRUE(reaches(id, "COMPLETED")) << said();
  EXPECT_EQ(job(id).restarts, 0);
  EXPECT_TRUE(contains(events(), "generation 2, launcher"));
  expect_same_weights(run(name_));
}

TEST_F(SlurmTest, ACoordinatorLaunchesAgainBySrunToo) {
  const std::string id = submit({"--time=30"}, named({"--launcher", "srun"}));
  ASSERT_TRUE(reaches_the_middle(run(name_))) << said();
  kill_a_rank();
  ASSERT_TRUE(reaches(id, "COMPLETED")) << said();
  EXPECT_TRUE(contains(events(), "generation 2, launcher"));
  expect_same_weights(run(name_));
}

TEST_F(SlurmTest, SrunAloneStartsRanksThatFindEachOther) {
  const std::string id = submit_line(
      {"--ntasks=2", "--nodes=1"}, "srun --mpi=pmix " ESPALIER_PROGRAM " train" + line_of(named()));
  ASSERT_TRUE(reaches(id, "COMPLETED")) << said();
  EXPECT_TRUE(contains(said(), "srun: SLURM_PROCID=0 with PMIx; 2 ranks")) << said();
  expect_same_weights(run(name_));
}

TEST_F(SlurmTest, MpirunAloneStartsRanksInAnAllocation) {
  const std::string id = submit_line(
      {"--ntasks=2", "--nodes=1"},
      "mpirun --allow-run-as-root --bind-to none " ESPALIER_PROGRAM " train" + line_of(named()));
  ASSERT_TRUE(reaches(id, "COMPLETED")) << said();
  EXPECT_TRUE(contains(said(), "mpirun: OMPI_COMM_WORLD_RANK=0; 2 ranks")) << said();
  expect_same_weights(run(name_));
}

TEST_F(SlurmTest, ARunThatAPersonStopsIsNotQueuedAgain) {
  const std::string id = submit({"--time=30"}, named());
  ASSERT_TRUE(reaches_the_middle(run(name_))) << said();
  // Its coordinator listens on node1 alone, and the test is on neither node.
  say({"srun", "--overlap", "--jobid=" + id, "--ntasks=1", ESPALIER_PROGRAM, "stop",
       run(name_).string()});
  ASSERT_TRUE(reaches(id, "FAILED")) << said();  // exit code 75
  EXPECT_EQ(job(id).restarts, 0);
  EXPECT_GE(newest_checkpoint(run(name_)), 20);
}

TEST_F(SlurmTest, AJobThatMayNotBeQueuedAgainEndsWith75AndSaysSo) {
  const std::string id = submit({"--time=30", "--no-requeue"}, named());
  ASSERT_TRUE(reaches_the_middle(run(name_))) << said();
  warn(id);
  ASSERT_TRUE(reaches(id, "FAILED")) << said();
  EXPECT_TRUE(contains(say({"scontrol", "show", "job", id}), "ExitCode=75:0"));
  EXPECT_TRUE(contains(said(), "submitted without --requeue")) << said();
}

TEST_F(SlurmTest, AJobThatIsCancelledSavesAndIsNotQueuedAgain) {
  const std::string id = submit({"--time=30"}, named());
  ASSERT_TRUE(reaches_the_middle(run(name_))) << said();
  say({"scancel", id});
  ASSERT_TRUE(reaches(id, "CANCELLED")) << said();
  EXPECT_TRUE(eventually(60, [&] { return contains(said(), "is not queued again"); })) << said();
  EXPECT_GE(newest_checkpoint(run(name_)), 20);
}

// Slurm's own signal, and its own wait before a job comes back (REQUEUE_DELAY=120).
TEST_F(SlurmTest, SlowTheSignalBeforeTheTimeLimitStopsTheRunWhichGoesOnMinutesLater) {
  const std::string id =
      submit({"--time=2", "--signal=B:USR1@60"},
             named({"--stop-before-limit", "1", "--set", "stage.codes.steps=100000"}));
  ASSERT_TRUE(eventually(kPatience_s, [&] { return job(id).restarts == 1; })) << said();
  EXPECT_TRUE(contains(events(), "SIGUSR1: asked every rank to write a checkpoint and stop"));
  const int64_t stopped_at = newest_checkpoint(run(name_));
  ASSERT_TRUE(eventually(kPatience_s, [&] { return newest_checkpoint(run(name_)) > stopped_at; }))
      << said();
  EXPECT_TRUE(contains(events(), "generation 2, launcher"));
}

// One rank on each of two hosts; the coordinator is on the first. A rank dies.
TEST_F(SlurmTest, RanksOnTwoNodesTrainUnderOneCoordinatorThatLaunchesThemAgain) {
  const std::string id = submit({"--nodes=2", "--ntasks-per-node=1", "--time=30"}, named());
  ASSERT_TRUE(reaches_the_middle(run(name_))) << said() << coordinator_log();
  EXPECT_TRUE(contains(coordinator_log(),
                       "launcher: srun (the Slurm allocation has 2 nodes, and srun offers PMIx)"));
  kill_a_rank();
  ASSERT_TRUE(reaches(id, "COMPLETED")) << said();
  EXPECT_EQ(job(id).restarts, 0);
  EXPECT_TRUE(contains(events(), "generation 2, launcher"));
  expect_same_weights(run(name_));
}

TEST_F(SlurmTest, MpirunStartsRanksOnTwoNodesToo) {
  const std::string id =
      submit({"--nodes=2", "--ntasks-per-node=1", "--time=30"}, named({"--launcher", "mpirun"}));
  ASSERT_TRUE(reaches(id, "COMPLETED")) << said() << coordinator_log();
  expect_same_weights(run(name_));
}

}  // namespace
}  // namespace espalier
