// Real processes: `espalier launch` and mpirun on a small run, with real faults. Working directory
// is the root of the sources.

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "fault/program.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

constexpr double kPatience_s = 600;

class FaultTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    root_ = fs::path(testing::TempDir()) / ("fault-" + std::to_string(::getpid()));
    fs::create_directories(root_);
    Program reference(launch("reference"), root_ / "reference.txt");
    ASSERT_EQ(reference.wait(kPatience_s), 0) << reference.output();
  }
  static void TearDownTestSuite() { fs::remove_all(root_); }

  void SetUp() override { name_ = testing::UnitTest::GetInstance()->current_test_info()->name(); }
  void TearDown() override {
    if (HasFailure()) {
      std::printf("---- %s\n%s\n", name_.c_str(), read_text(output()).c_str());
      std::error_code none;
      for (const auto& entry : fs::recursive_directory_iterator(run() / "logs", none)) {
        if (!entry.is_regular_file()) continue;
        std::printf("---- %s\n%s\n", entry.path().c_str(), read_text(entry.path()).c_str());
      }
    }
  }

  static std::vector<std::string> training(const std::string& name) {
    return {std::string(ESPALIER_SOURCE_DIR) + "/tests/fault/tiny.toml", "--set",
            "run.directory=" + (root_ / name).string()};
  }
  static std::vector<std::string> launch(const std::string& name) {
    std::vector<std::string> out = {ESPALIER_PROGRAM, "launch"};
    const auto rest = training(name);
    out.insert(out.end(), rest.begin(), rest.end());
    out.insert(out.end(), {"-n", "2"});
    return out;
  }
  static std::vector<std::string> mpirun(const std::string& name, int ranks) {
    std::vector<std::string> out = {"mpirun",          "-n",        std::to_string(ranks),
                                    "--oversubscribe", "--bind-to", "none"};
    if (::geteuid() == 0) out.push_back("--allow-run-as-root");
    out.insert(out.end(), {ESPALIER_PROGRAM, "train"});
    const auto rest = training(name);
    out.insert(out.end(), rest.begin(), rest.end());
    return out;
  }

  // Two ranks with a run directory each, as on hosts that share no file system: disk-0 and disk-1.
  static std::vector<std::string> mpirun_apart(const std::string& name, const std::string& sets) {
    std::vector<std::string> out = mpirun(name, 2);
    const auto program = std::find(out.begin(), out.end(), ESPALIER_PROGRAM);
    out.erase(program, out.end());
    fs::create_directories(root_ / name);
    out.insert(out.end(), {"sh", "-c",
                           std::string("exec " ESPALIER_PROGRAM " train " ESPALIER_SOURCE_DIR) +
                               "/tests/fault/tiny.toml --set run.directory=" +
                               (root_ / name).string() + "/disk-$OMPI_COMM_WORLD_RANK " + sets});
    return out;
  }

  fs::path run() const { return root_ / name_; }
  fs::path output() const { return root_ / (name_ + ".txt"); }
  // In the middle of the first stage, with something to go on from.
  bool reaches_the_middle() const {
    return eventually(kPatience_s, [this] {
      return trained_steps(run()) >= 30 && newest_checkpoint(run()) >= 20;
    });
  }
  void expect_same_weights_as_reference() const {
    EXPECT_EQ(newest_checkpoint(run()), newest_checkpoint(root_ / "reference"));
    EXPECT_TRUE(final_weights(run()) == final_weights(root_ / "reference"));
  }
  std::string events() const { return read_text(run() / "events.jsonl"); }

  static fs::path root_;
  std::string name_;
};
fs::path FaultTest::root_;

TEST_F(FaultTest, KilledRankIsNamedAndTheResultIsBitEqual) {
  Program program(launch(name_), output());
  ASSERT_TRUE(reaches_the_middle());
  const int victim = pid_of_rank(run(), 1);
  ASSERT_GT(victim, 0);
  ::kill(victim, SIGKILL);
  ASSERT_EQ(program.wait(kPatience_s), 0);
  EXPECT_NE(events().find("rank 1 (pid " + std::to_string(victim) + ") died"), std::string::npos);
  EXPECT_NE(events().find("generation 2, launcher"), std::string::npos);
  expect_same_weights_as_reference();
  EXPECT_TRUE(fs::exists(run() / "report.html"));
}

TEST_F(FaultTest, InterruptedRunSavesEndsWith75AndGoesOnByTheSameCommand) {
  {
    Program program(launch(name_), output());
    ASSERT_TRUE(reaches_the_middle());
    program.signal(SIGINT);
    ASSERT_EQ(program.wait(kPatience_s), 75);
  }
  const int64_t stopped_at = newest_checkpoint(run());
  EXPECT_GE(stopped_at, 30);
  EXPECT_LT(stopped_at, 160);
  Program again(launch(name_), output());
  ASSERT_EQ(again.wait(kPatience_s), 0);
  EXPECT_NE(events().find("step-"), std::string::npos);
  expect_same_weights_as_reference();
}

TEST_F(FaultTest, FrozenRankIsNamedAndReplaced) {
  Program program(launch(name_), output());
  ASSERT_TRUE(reaches_the_middle());
  const int victim = pid_of_rank(run(), 1);
  ASSERT_GT(victim, 0);
  ::kill(victim, SIGSTOP);
  ASSERT_EQ(program.wait(kPatience_s), 0);
  EXPECT_NE(events().find("rank 1 (pid " + std::to_string(victim) + ") has been silent"),
            std::string::npos);
  EXPECT_NE(::kill(victim, 0), 0);
  expect_same_weights_as_reference();
}

TEST_F(FaultTest, KilledLauncherLeavesNoRankBehind) {
  Program program(launch(name_), output());
  ASSERT_TRUE(reaches_the_middle());
  const int rank = pid_of_rank(run(), 0);
  std::ifstream stat("/proc/" + std::to_string(rank) + "/stat");
  std::string ignored;
  int launcher = 0;
  stat >> ignored >> ignored >> ignored >> launcher;  // parent of a rank
  ASSERT_GT(launcher, 1);
  ::kill(launcher, SIGKILL);
  EXPECT_TRUE(eventually(3, [&] { return ::kill(rank, 0) != 0; }));
  ASSERT_EQ(program.wait(kPatience_s), 0);
  expect_same_weights_as_reference();
}

TEST_F(FaultTest, CoordinatorThatComesBackAdoptsTheRunningRanks) {
  {
    Program program(launch(name_), output());
    ASSERT_TRUE(reaches_the_middle());
    program.signal(SIGKILL);
    EXPECT_EQ(program.wait(10), 137);
  }
  Program again(launch(name_), output());
  ASSERT_EQ(again.wait(kPatience_s), 0);
  EXPECT_NE(events().find("went on with generation 1"), std::string::npos);
  EXPECT_EQ(events().find("generation 2, launcher"), std::string::npos);
  expect_same_weights_as_reference();
}

// One save waits for the coordinator's approval; training does not.
TEST_F(FaultTest, RanksTrainOnPastTheirCheckpointsWhileTheCoordinatorIsAway) {
  {
    Program program(launch(name_), output());
    ASSERT_TRUE(reaches_the_middle());
    program.signal(SIGKILL);
    EXPECT_EQ(program.wait(10), 137);
  }
  const int64_t killed_at = trained_steps(run());
  EXPECT_TRUE(eventually(100, [&] { return trained_steps(run()) >= killed_at + 60; }))
      << "from step " << killed_at << " to " << trained_steps(run());
  Program again(launch(name_), output());
  ASSERT_EQ(again.wait(kPatience_s), 0);
  EXPECT_EQ(events().find("generation 2, launcher"), std::string::npos);
  expect_same_weights_as_reference();
}

TEST_F(FaultTest, ClosedTerminalStopsTheRunWithACheckpointAndLeavesNothingBehind) {
  Program program(launch(name_), output());
  ASSERT_TRUE(reaches_the_middle());
  program.signal(SIGHUP);
  ASSERT_EQ(program.wait(kPatience_s), 75);
  EXPECT_GE(newest_checkpoint(run()), 30);
  for (const char* left : {"coordinator.json", "tmp"}) EXPECT_FALSE(fs::exists(run() / left));
}

TEST_F(FaultTest, OlderManifestWithAFlippedHighBitIsSetAsideAndTheRunGoesOn) {
  auto arguments = launch(name_);
  arguments.insert(arguments.end(), {"--set", "checkpoint.keep=5"});
  {
    Program program(arguments, output());
    ASSERT_TRUE(eventually(kPatience_s, [this] { return newest_checkpoint(run()) >= 40; }));
    program.signal(SIGINT);
    ASSERT_EQ(program.wait(kPatience_s), 75);
  }
  // The one before the newest: a start goes on from the newest, and on a fast machine there are so
  // many that older ones are let go unread.
  std::vector<fs::path> checkpoints;
  for (const auto& entry : fs::directory_iterator(run() / "checkpoints")) {
    if (entry.path().filename().string().starts_with("step-")) checkpoints.push_back(entry.path());
  }
  std::sort(checkpoints.begin(), checkpoints.end());
  ASSERT_GE(checkpoints.size(), 2U);
  const fs::path manifest = checkpoints[checkpoints.size() - 2] / "manifest.json";
  std::string text = read_text(manifest);
  text[33] = static_cast<char>(text[33] ^ 0x80);
  std::ofstream(manifest, std::ios::binary) << text;
  Program again(arguments, output());
  ASSERT_EQ(again.wait(kPatience_s), 0);
  EXPECT_NE(events().find("\xef\xbf\xbd"), std::string::npos) << "the reason has the byte";
  EXPECT_EQ(events().find("failure"), std::string::npos) << events();
  expect_same_weights_as_reference();
}

TEST_F(FaultTest, CrashLoopEndsAfterThreeLaunchesWithExit93) {
  Program program(launch(name_), output());
  int last_victim = 0;
  EXPECT_TRUE(eventually(kPatience_s, [&] {
    const int victim = pid_of_rank(run(), 0);
    if (victim > 0 && victim != last_victim && newest_checkpoint(run()) < 0) {
      ::kill(victim, SIGKILL);
      last_victim = victim;
    }
    return !program.is_running();
  }));
  EXPECT_EQ(program.wait(1), 93);
  EXPECT_NE(events().find("generation 3, launcher"), std::string::npos);
  EXPECT_EQ(events().find("generation 4, launcher"), std::string::npos);
}

TEST_F(FaultTest, MissingDataEndsWithExit64AndIsNotTriedAgain) {
  auto arguments = launch(name_);
  arguments.insert(arguments.end(), {"--set", "data.emoji.train=[\"no/such.tar\"]"});
  Program program(arguments, output());
  EXPECT_EQ(program.wait(kPatience_s), 64);
  EXPECT_NE(program.output().find("no/such.tar"), std::string::npos);
  EXPECT_EQ(events().find("generation 2"), std::string::npos);
}

TEST_F(FaultTest, SecondCoordinatorOnTheSameRunIsRefused) {
  Program first(launch(name_), output());
  ASSERT_TRUE(eventually(kPatience_s, [this] { return pid_of_rank(run(), 0) > 0; }));
  Program second(launch(name_), root_ / "second.txt");
  EXPECT_EQ(second.wait(kPatience_s), 64);
  EXPECT_NE(second.output().find("another coordinator"), std::string::npos);
  first.signal(SIGTERM);
  EXPECT_EQ(first.wait(kPatience_s), 75);
}

TEST_F(FaultTest, StopCommandStopsTheRunWithACheckpoint) {
  Program program(launch(name_), output());
  ASSERT_TRUE(reaches_the_middle());
  Program stop({ESPALIER_PROGRAM, "stop", run().string()}, root_ / "stop.txt");
  EXPECT_EQ(stop.wait(60), 0) << stop.output();
  EXPECT_EQ(program.wait(kPatience_s), 75);
  EXPECT_GE(newest_checkpoint(run()), 30);
}

TEST_F(FaultTest, TwoRanksUnderMpirunAloneGiveTheSameWeights) {
  Program program(mpirun(name_, 2), output());
  ASSERT_EQ(program.wait(kPatience_s), 0);
  EXPECT_NE(program.output().find("mpirun: OMPI_COMM_WORLD_RANK=0"), std::string::npos);
  expect_same_weights_as_reference();
}

TEST_F(FaultTest, ThreeRanksUnderMpirunTrainToo) {
  Program program(mpirun(name_, 3), output());
  ASSERT_EQ(program.wait(kPatience_s), 0);
  EXPECT_EQ(newest_checkpoint(run()), newest_checkpoint(root_ / "reference"));
}

TEST_F(FaultTest, OneRankAloneStopsOnSigtermWithACheckpointAndGoesOn) {
  std::vector<std::string> arguments = {ESPALIER_PROGRAM, "train"};
  const auto rest = training(name_);
  arguments.insert(arguments.end(), rest.begin(), rest.end());
  {
    Program program(arguments, output());
    ASSERT_TRUE(reaches_the_middle());
    program.signal(SIGTERM);
    ASSERT_EQ(program.wait(kPatience_s), 75);
  }
  EXPECT_GE(newest_checkpoint(run()), 30);
  Program again(arguments, output());
  EXPECT_EQ(again.wait(kPatience_s), 0);
}

TEST_F(FaultTest, RanksThatShareNoDirectoryAreToldSoBeforeTheyTrain) {
  Program program(mpirun_apart(name_, ""), output());
  EXPECT_EQ(program.wait(kPatience_s), 64);
  EXPECT_NE(program.output().find("is not one folder for all ranks: rank 1 (host "),
            std::string::npos)
      << program.output();
  EXPECT_EQ(trained_steps(run() / "disk-0"), -1);
}

TEST_F(FaultTest, RanksThatShareNoDiskStopAndResumeBitForBit) {
  const std::string sets =
      "--set checkpoint.shared=false --set stage.codes.steps=60 --set stage.both.steps=10";
  Program straight(mpirun_apart(name_ + "-straight", sets), root_ / "straight.txt");
  ASSERT_EQ(straight.wait(kPatience_s), 0) << straight.output();
  {
    Program program(mpirun_apart(name_, sets), output());
    ASSERT_TRUE(eventually(kPatience_s, [this] { return trained_steps(run() / "disk-0") >= 25; }));
    program.signal(SIGUSR1);  // mpirun passes it on
    EXPECT_EQ(program.wait(kPatience_s), 75);
  }
  const int64_t stopped_at = newest_checkpoint(run() / "disk-0");
  EXPECT_GE(stopped_at, 25);
  EXPECT_LT(stopped_at, 70);
  Program again(mpirun_apart(name_, sets), output());
  ASSERT_EQ(again.wait(kPatience_s), 0);
  EXPECT_EQ(newest_checkpoint(run() / "disk-0"), 70);
  EXPECT_TRUE(final_weights(run() / "disk-0") ==
              final_weights(root_ / (name_ + "-straight") / "disk-0"));
  EXPECT_FALSE(fs::exists(run() / "disk-1"));
}

}  // namespace
}  // namespace espalier
