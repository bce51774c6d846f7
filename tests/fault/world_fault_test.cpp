// A world model's run loses a rank to SIGKILL. Real processes; the simulator is the small one of
// the tests.

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "fault/program.h"
#include "trainer/toy_room.h"
#include "trainer/world_things.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

constexpr double kPatience_s = 600;

class WorldFault : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(testing::TempDir()) / ("world-fault-" + std::to_string(::getpid()));
    fs::remove_all(root_);
    fs::create_directories(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  fs::path run(const std::string& name) const { return root_ / name; }
  std::vector<std::string> launch(const std::string& name) const {
    return {ESPALIER_PROGRAM,
            "launch",
            write_config(files_.toml(run(name).string())),
            "-n",
            "2",
            "--set",
            "stage.world.steps=200",
            "--set",
            "checkpoint.every_steps=10"};
  }
  std::string events(const std::string& name) const {
    return read_text(run(name) / "events.jsonl");
  }
  // What was measured, without the paths of pictures.
  std::string evaluation(const std::string& name) const {
    std::string text = read_text(run(name) / "evaluation/world.json");
    const std::string folder = run(name).string();
    for (size_t at = 0; (at = text.find(folder)) != std::string::npos;) {
      text.erase(at, folder.size());
    }
    return text;
  }
  void expect_whole(const std::string& name) const {
    EXPECT_EQ(newest_checkpoint(run(name)), newest_checkpoint(run("reference")));
    EXPECT_TRUE(final_weights(run(name)) == final_weights(run("reference")));
    EXPECT_EQ(evaluation(name), evaluation("reference"));
  }

  WorldFiles files_{/*is_discrete=*/true};
  fs::path root_;
};

TEST_F(WorldFault, ARankThatIsKilledInTrainingLeavesTheSameWeightsAndTheSameEvaluation) {
  Program reference(launch("reference"), root_ / "reference.txt");
  ASSERT_EQ(reference.wait(kPatience_s), 0) << reference.output();
  ASSERT_NE(evaluation("reference").find("success_rate"), std::string::npos);

  Program program(launch("killed"), root_ / "killed.txt");
  ASSERT_TRUE(eventually(kPatience_s, [this] {
    return trained_steps(run("killed")) >= 30 && newest_checkpoint(run("killed")) >= 20;
  })) << program.output();
  const int victim = pid_of_rank(run("killed"), 1);
  ASSERT_GT(victim, 0);
  ::kill(victim, SIGKILL);
  ASSERT_EQ(program.wait(kPatience_s), 0) << program.output();
  EXPECT_NE(events("killed").find("rank 1 (pid " + std::to_string(victim) + ") died"),
            std::string::npos);
  EXPECT_NE(events("killed").find("generation 2, launcher"), std::string::npos);
  expect_whole("killed");
}

}  // namespace
}  // namespace espalier
