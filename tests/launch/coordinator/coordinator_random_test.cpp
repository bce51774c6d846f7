#include <gtest/gtest.h>

#include <random>

#include "launch/coordinator/coordinator.h"

namespace espalier {
namespace {

// Whatever the order of events: generations only grow, commits never go back, nothing is launched
// while a job is alive, and nothing happens after the end.
TEST(Coordinator, KeepsItsInvariantsUnderRandomEvents) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 rng(seed);
    CoordinatorLimits limits;
    limits.world_size = 2;
    Coordinator machine(limits, [] { return 0.5; });
    Seconds now = 0;
    bool job_alive = false;
    int finishes = 0;
    uint32_t generation = 0;
    const auto take = [&](const std::vector<CoordinatorAction>& actions) {
      for (const auto& action : actions) {
        ASSERT_EQ(finishes, 0);
        if (const auto* launch = std::get_if<LaunchJob>(&action)) {
          ASSERT_FALSE(job_alive);
          ASSERT_EQ(launch->generation, generation + 1);
          generation = launch->generation;
          job_alive = true;
        } else if (const auto* commit = std::get_if<RecordCommit>(&action)) {
          ASSERT_EQ(commit->generation, generation);
        } else if (std::holds_alternative<FinishRun>(action)) {
          ++finishes;
        }
      }
    };
    take(machine.handle(CoordinatorStart{}, now));
    int64_t step = 0;
    for (int i = 0; i < 400; ++i) {
      now += static_cast<double>(rng() % 1000) / 200;
      const uint32_t g = generation - (rng() % 8 == 0 ? 1 : 0);
      const int rank = static_cast<int>(rng() % 3) - (rng() % 10 == 0 ? 1 : 0);
      switch (rng() % 12) {
        case 0:
          take(machine.handle(LauncherStarted{g, 5}, now));
          break;
        case 1:
          if (rng() % 4 == 0 && job_alive) {
            job_alive = false;
            take(machine.handle(LauncherExited{static_cast<int>(rng() % 140)}, now));
          }
          break;
        case 2:
          take(machine.handle(RankJoined{g, rank, 7}, now));
          break;
        case 3:
          take(machine.handle(RankHungUp{g, rank, rng() % 2 == 0}, now));
          break;
        case 4:
          take(machine.handle(RankPrepared{g, rank, step}, now));
          break;
        case 5:
          take(machine.handle(RankCommitted{g, 0, step++}, now));
          break;
        case 6:
          take(machine.handle(RankBye{g, rank, rng() % 2 ? 0 : 75}, now));
          break;
        case 7:
          if (rng() % 40 == 0) take(machine.handle(StopRequested{"x"}, now));
          break;
        case 8:
          take(machine.handle(RankError{g, rank, "internal", "x"}, now));
          break;
        case 9:
          take(machine.handle(ClockTick{}, now));
          break;
        default:
          take(machine.handle(RankBeat{g, rank, step, "train"}, now));
          break;
      }
      if (testing::Test::HasFatalFailure()) FAIL() << "seed " << seed;
    }
    EXPECT_EQ(machine.finished(), finishes == 1);
  }
}

}  // namespace
}  // namespace espalier
