#include "launch/coordinator/time_limit.h"

#include <gtest/gtest.h>

#include "coordinator_of_two.h"

namespace espalier {
namespace {

TEST(TimeLimit, IsNeverDueWhereNobodySetsOne) { EXPECT_FALSE(TimeLimit(300).is_due(1e9)); }

TEST(TimeLimit, LeavesAMinuteWhenNothingIsKnownOfSaves) {
  TimeLimit limit(300);
  limit.set({1000});
  EXPECT_FALSE(limit.is_due(939));
  EXPECT_TRUE(limit.is_due(940));
}

TEST(TimeLimit, LeavesRoomForTwoSavesAndTheSlowestStep) {
  TimeLimit limit(300);
  limit.beat(1, Phase::kForwardBackward, 0);
  limit.beat(2, Phase::kForwardBackward, 10);
  limit.beat(2, Phase::kCheckpoint, 11);
  limit.beat(2, Phase::kAgree, 12);
  limit.preparing(40);
  limit.committed(51);
  EXPECT_DOUBLE_EQ(limit.margin(), 2 * 40 + 10);
}

TEST(TimeLimit, ForgetsASaveThatNoCommitEnded) {
  TimeLimit limit(300);
  limit.beat(1, Phase::kCheckpoint, 0);
  limit.beat(1, Phase::kForwardBackward, 1);
  limit.beat(1, Phase::kCheckpoint, 200);
  limit.committed(240);
  EXPECT_DOUBLE_EQ(limit.margin(), 2 * 40);
}

TEST(TimeLimit, LeavesNoMoreThanAStopMayTake) {
  TimeLimit limit(300);
  limit.beat(1, Phase::kCheckpoint, 0);
  limit.committed(1000);
  EXPECT_DOUBLE_EQ(limit.margin(), 300);
}

TEST_F(CoordinatorOfTwo, AsksForACheckpointBeforeTheTimeLimitWithoutBeingTold) {
  start_and_join();
  tell(JobEnds{now_ + 100});
  EXPECT_TRUE(noted("time_limit", "ends this job in 100 s"));
  run(30, 5, 5);
  EXPECT_TRUE(take<SendStop>().empty());
  run(15, 6, 6);
  const auto stops = take<SendStop>();
  ASSERT_EQ(stops.size(), 1u);
  EXPECT_NE(stops[0].why.find("the time limit in"), std::string::npos);
  bye(kExitStopped, kExitStopped, kExitStopped);
  const auto finish = take<FinishRun>().at(0);
  EXPECT_EQ(finish.exit_code, kExitStopped);
  EXPECT_TRUE(finish.wants_requeue);
}

TEST_F(CoordinatorOfTwo, GoesOnWhenTheTimeLimitIsMovedAway) {
  start_and_join();
  tell(JobEnds{now_ + 100});
  run(20, 5, 5);
  tell(JobEnds{now_ + 1000});
  run(60, 6, 6);
  EXPECT_TRUE(take<SendStop>().empty());
}

TEST_F(CoordinatorOfTwo, DoesNotLaunchAgainWhenTheTimeIsUp) {
  start_and_join();
  tell(RankHungUp{1, 0, true});
  tell(LauncherExited{137});
  ASSERT_EQ(machine_.state(), CoordinatorState::kBackoff);
  tell(JobEnds{now_ + 30});
  tell(ClockTick{});
  expect_finish(kExitStopped, CoordinatorState::kPreempted);
}

// Slurm's USR1 may come after the coordinator has seen the limit by itself.
TEST_F(CoordinatorOfTwo, IsNotHurriedByASecondWarning) {
  start_and_join();
  run(2, 5, 5);
  tell(StopRequested{"the time limit", StopSource::kWarning});
  tell(StopRequested{"SIGUSR1", StopSource::kWarning});
  EXPECT_TRUE(take<EndJob>().empty());
  tell(StopRequested{"SIGTERM", StopSource::kScheduler});
  EXPECT_TRUE(take<EndJob>().at(0).at_once);
}

TEST_F(CoordinatorOfTwo, WantsNoRequeueWhenAPersonStopsIt) {
  start_and_join();
  run(2, 5, 5);
  tell(StopRequested{"espalier stop", StopSource::kPerson});
  bye(kExitStopped, kExitStopped, kExitStopped);
  EXPECT_FALSE(take<FinishRun>().at(0).wants_requeue);
}

}  // namespace
}  // namespace espalier
