#include "launch/coordinator/rank_watch.h"

#include <gtest/gtest.h>

#include <iterator>

#include "coordinator_of_two.h"

namespace espalier {
namespace {

// Silence, stalls and deaths, as the whole coordinator answers them.

TEST_F(CoordinatorOfTwo, NamesADeadRankAndLaunchesAgainWithTheNextGeneration) {
  start_and_join();
  beat(5);
  tell(RankHungUp{1, 1, true});
  EXPECT_TRUE(noted("failure", "rank 1 (pid 2001) died"));
  tell(LauncherExited{137});
  EXPECT_EQ(machine_.state(), CoordinatorState::kBackoff);
  EXPECT_TRUE(noted("relaunch", "rank 1"));
  take<LaunchJob>();
  now_ += 60;
  tell(ClockTick{});
  EXPECT_EQ(take<LaunchJob>().at(0).generation, 2u);
}

TEST_F(CoordinatorOfTwo, EndsTheJobWhenTheLauncherDoesNotNoticeADeadRank) {
  start_and_join();
  beat(5);
  tell(RankHungUp{1, 1, true});
  run(6, 5, 5);
  EXPECT_EQ(take<EndJob>().size(), 1u);
  run(11, 5, 5);
  EXPECT_TRUE(take<EndJob>().at(0).at_once);
}

TEST_F(CoordinatorOfTwo, LetsARankThatHungUpButLivesComeBack) {
  start_and_join();
  beat(5);
  tell(RankHungUp{1, 1, false});
  now_ += 3;
  tell(RankJoined{1, 1, 2001});
  run(4, 6, 6);
  EXPECT_TRUE(take<EndJob>().empty());
  EXPECT_EQ(machine_.state(), CoordinatorState::kRunning);
}

TEST_F(CoordinatorOfTwo, CallsASilentRankSuspectAndThenDead) {
  start_and_join();
  beat(5);
  for (int second = 0; second < 20; ++second) {
    now_ += 1;
    tell(RankBeat{1, 0, 5 + second, Phase::kForwardBackward});
    tell(ClockTick{});
  }
  EXPECT_TRUE(noted("suspect", "rank 1"));
  EXPECT_TRUE(noted("failure", "rank 1"));
  EXPECT_EQ(take<EndJob>().size(), 1u);
}

TEST_F(CoordinatorOfTwo, DoesNotBlameTheRanksForItsOwnAbsence) {
  start_and_join();
  run(3, 5, 5);
  now_ += 120;  // suspended; the ranks' beats wait in the sockets
  tell(ClockTick{});
  run(3, 6, 6);
  EXPECT_TRUE(take<EndJob>().empty());
  EXPECT_FALSE(noted("suspect", "rank"));
}

TEST_F(CoordinatorOfTwo, NamesTheRankThatBeatsWithoutProgress) {
  start_and_join();
  beat(5);
  run(30, 5, 6);  // rank 1 finished one more step, then waits for rank 0
  run(40, 5, 6);
  EXPECT_TRUE(noted("failure", "rank 0"));
  EXPECT_EQ(take<EndJob>().size(), 1u);
}

// The deadline of each phase by the default settings, before any step was measured.
struct PhaseLimit {
  Phase phase;
  int seconds;
};
class CoordinatorByPhase : public CoordinatorOfTwo,
                           public testing::WithParamInterface<PhaseLimit> {};

TEST_P(CoordinatorByPhase, EndsAJobThatMakesNoProgressAfterTheDeadlineOfItsPhase) {
  const auto [phase, seconds] = GetParam();
  start_and_join();
  beat(5, phase);
  stall(seconds - 1, 5, phase);
  EXPECT_TRUE(take<EndJob>().empty());
  stall(3, 5, phase);
  EXPECT_TRUE(noted("failure", "in phase " + std::string(name_of(phase))));
  EXPECT_EQ(take<EndJob>().size(), 1u);
}

constexpr PhaseLimit kLimits[] = {
    {Phase::kSetup, 900},      {Phase::kLoadCheckpoint, 900}, {Phase::kData, 60},
    {Phase::kAgree, 60},       {Phase::kForwardBackward, 60}, {Phase::kReduce, 60},
    {Phase::kOptimizer, 60},   {Phase::kStatistics, 60},      {Phase::kInterference, 60},
    {Phase::kCheckpoint, 600}, {Phase::kEvaluate, 900},       {Phase::kFinished, 900}};
static_assert(std::size(kLimits) == kPhases.size(), "every phase has a deadline");

INSTANTIATE_TEST_SUITE_P(Phases, CoordinatorByPhase, testing::ValuesIn(kLimits),
                         [](const auto& i) { return std::string(name_of(i.param.phase)); });

TEST_F(CoordinatorOfTwo, NamesTheRankThatStallsInAgreeWhileTheOtherTrains) {
  start_and_join();
  for (int64_t i = 0; i < 62; ++i) {
    now_ += 1;
    tell(RankBeat{1, 0, 5 + i, Phase::kForwardBackward});
    tell(RankBeat{1, 1, 5, Phase::kAgree});
    tell(ClockTick{});
  }
  EXPECT_TRUE(noted("failure", "rank 1 (pid 2001) made no progress for 61 s in phase agree"));
}

TEST_F(CoordinatorOfTwo, DoesNotBlameARankThatWaitsForTheEvaluationOfAnother) {
  start_and_join();
  tell(RankBeat{1, 0, 5, Phase::kEvaluate});
  for (int i = 0; i < 800; ++i) {
    now_ += 1;
    tell(RankBeat{1, 0, 5, Phase::kEvaluate});
    tell(RankBeat{1, 1, 5, Phase::kAgree});
    tell(ClockTick{});
  }
  EXPECT_TRUE(take<EndJob>().empty());
  for (int i = 0; i < 120; ++i) {
    now_ += 1;
    tell(RankBeat{1, 0, 5, Phase::kEvaluate});
    tell(RankBeat{1, 1, 5, Phase::kAgree});
    tell(ClockTick{});
  }
  EXPECT_TRUE(noted("failure", "rank 0"));
}

TEST(CoordinatorWithOtherDeadlines, UsesThoseOfItsSettings) {
  DeadlineConfig deadlines;
  deadlines.step_floor = 7;
  deadlines.launches_without_commit = 1;
  Coordinator machine(WorldChoice{{1}, false}, deadlines, [] { return 0.0; });
  machine.handle(CoordinatorStart{}, 0);
  machine.handle(RankJoined{1, 0, 2000}, 0);
  Seconds now = 0;
  while (machine.state() != CoordinatorState::kDraining && now < 100) {
    now += 1;
    machine.handle(RankBeat{1, 0, 0, Phase::kReduce}, now);
    machine.handle(ClockTick{}, now);
  }
  EXPECT_EQ(now, 9);  // more than 7 s after the first beat
  machine.handle(LauncherExited{kExitInternal}, now);
  EXPECT_EQ(machine.state(), CoordinatorState::kFailed);
}

TEST_F(CoordinatorOfTwo, DoesNotEndLongWorkThatMovesOn) {
  start_and_join();
  for (int64_t i = 0; i < 2000; ++i) {
    now_ += 1;
    for (int rank : {0, 1}) tell(RankBeat{machine_.generation(), rank, -1, Phase::kSetup, i / 60});
    tell(ClockTick{});
  }
  EXPECT_TRUE(take<EndJob>().empty());
}

TEST_F(CoordinatorOfTwo, StretchesTheStepDeadlineWhenStepsAreSlow) {
  start_and_join();
  for (int64_t step = 1; step < 5; ++step) run(40, step, step);
  EXPECT_NEAR(machine_.step_deadline(), 200, 10);
}

TEST_F(CoordinatorOfTwo, EndsALaunchThatARankNeverJoins) {
  tell(CoordinatorStart{});
  tell(LauncherStarted{1, 1000});
  tell(RankJoined{1, 0, 2000});
  for (int i = 0; i < 905; ++i) {
    now_ += 1;
    tell(RankBeat{1, 0, i, Phase::kSetup});
    tell(ClockTick{});
  }
  EXPECT_TRUE(noted("failure", "rank 1 never joined"));
  EXPECT_FALSE(take<EndJob>().empty());
}

}  // namespace
}  // namespace espalier
