#include "launch/coordinator/coordinator.h"

#include <gtest/gtest.h>

#include "coordinator_of_two.h"

namespace espalier {
namespace {

TEST_F(CoordinatorOfTwo, LaunchesGenerationOneAndRunsWhenAllRanksHaveJoined) {
  tell(CoordinatorStart{});
  const auto launches = take<LaunchJob>();
  ASSERT_EQ(launches.size(), 1u);
  EXPECT_EQ(launches[0].generation, 1u);
  join();
  EXPECT_EQ(machine_.state(), CoordinatorState::kRunning);
}

TEST_F(CoordinatorOfTwo, LaunchesTheGenerationAfterTheLastOneInTheJournal) {
  tell(CoordinatorStart{7, 40, false, false});
  EXPECT_EQ(take<LaunchJob>().at(0).generation, 8u);
  EXPECT_EQ(machine_.last_commit(), 40);
}

TEST_F(CoordinatorOfTwo, EndsALeftoverJobBeforeLaunching) {
  tell(CoordinatorStart{7, 40, true, false});
  EXPECT_EQ(take<EndLeftover>().size(), 1u);
  EXPECT_TRUE(take<LaunchJob>().empty());
  tell(LeftoverGone{});
  EXPECT_EQ(take<LaunchJob>().at(0).generation, 8u);
}

TEST_F(CoordinatorOfTwo, AdoptsALeftoverOfTheSameJobWithoutLaunching) {
  tell(CoordinatorStart{7, 40, true, true});
  EXPECT_TRUE(take<LaunchJob>().empty());
  tell(RankJoined{7, 0, 2000});
  tell(RankJoined{7, 1, 2001});
  EXPECT_EQ(machine_.state(), CoordinatorState::kRunning);
  bye(0, 0, -1);
  expect_finish(0, CoordinatorState::kSucceeded);
}

TEST_F(CoordinatorOfTwo, AllowsTheCommitThatAdoptedRanksWaitFor) {
  tell(CoordinatorStart{7, 40, true, true});
  tell(RankJoined{7, 0, 2000});
  tell(RankPrepared{7, 0, 80});
  tell(RankJoined{7, 1, 2001});
  tell(RankPrepared{7, 1, 80});
  EXPECT_EQ(take<AllowCommit>().at(0).step, 80);
}

TEST_F(CoordinatorOfTwo, SucceedsWhenEveryRankIsDone) {
  start_and_join();
  bye(0, 0, 0);
  expect_finish(0, CoordinatorState::kSucceeded);
}

TEST_F(CoordinatorOfTwo, AllowsACommitOnlyWhenEveryRankIsPrepared) {
  start_and_join();
  tell(RankPrepared{1, 0, 40});
  EXPECT_TRUE(take<AllowCommit>().empty());
  EXPECT_EQ(machine_.state(), CoordinatorState::kCheckpointing);
  tell(RankPrepared{1, 1, 40});
  EXPECT_EQ(take<AllowCommit>().at(0).step, 40);
  tell(RankCommitted{1, 0, 40});
  EXPECT_EQ(take<RecordCommit>().at(0).step, 40);
  EXPECT_EQ(machine_.state(), CoordinatorState::kRunning);
}

TEST_F(CoordinatorOfTwo, IgnoresCommitsOfAnOldGeneration) {
  tell(CoordinatorStart{7, 40, false, false});
  join();
  tell(RankPrepared{7, 0, 80});
  tell(RankPrepared{7, 1, 80});
  tell(RankCommitted{7, 0, 80});
  EXPECT_TRUE(take<AllowCommit>().empty());
  EXPECT_EQ(machine_.last_commit(), 40);
}

class CoordinatorAfterAFinalFailure : public CoordinatorOfTwo,
                                      public testing::WithParamInterface<FailureClass> {};

TEST_P(CoordinatorAfterAFinalFailure, EndsWithItsExitCodeWhateverElseFailed) {
  start_and_join();
  tell(RankError{1, 0, FailureClass::kCommunication, "peer lost"});
  tell(RankError{1, 1, GetParam(), "the cause"});
  tell(LauncherExited{1});
  expect_finish(exit_code_of(GetParam()), CoordinatorState::kFailed);
}

INSTANTIATE_TEST_SUITE_P(Classes, CoordinatorAfterAFinalFailure,
                         testing::Values(FailureClass::kConfig, FailureClass::kData,
                                         FailureClass::kWeights, FailureClass::kOutOfMemory,
                                         FailureClass::kNumeric, FailureClass::kDoNotRequeue),
                         [](const auto& i) { return std::string(name_of(i.param)); });

TEST_F(CoordinatorOfTwo, LaunchesAgainAfterACrash) {
  start_and_join();
  tell(RankError{1, 0, FailureClass::kInternal, "boom"});
  tell(LauncherExited{70});
  EXPECT_EQ(machine_.state(), CoordinatorState::kBackoff);
}

TEST_F(CoordinatorOfTwo, GivesUpAfterThreeLaunchesWithoutACommit) {
  start_and_join();
  for (int i = 0; i < 2; ++i) {
    tell(LauncherExited{139});
    now_ += 400;
    tell(ClockTick{});
    join();
  }
  EXPECT_EQ(machine_.generation(), 3u);
  tell(LauncherExited{139});
  expect_finish(93, CoordinatorState::kFailed);
}

TEST_F(CoordinatorOfTwo, LaunchesAsOftenAsItTakesWhileCheckpointsAreCommitted) {
  start_and_join();
  for (int64_t i = 1; i <= 10; ++i) {
    commit(i * 10);
    tell(LauncherExited{139});
    ASSERT_EQ(machine_.state(), CoordinatorState::kBackoff);
    now_ += 400;
    tell(ClockTick{});
    join();
  }
  EXPECT_EQ(machine_.generation(), 11u);
}

TEST_F(CoordinatorOfTwo, DoublesTheBackOffUntilACommit) {
  start_and_join();
  tell(LauncherExited{139});
  now_ += 1.9;
  tell(ClockTick{});
  EXPECT_EQ(machine_.state(), CoordinatorState::kBackoff);
  now_ += 0.2;
  tell(ClockTick{});
  EXPECT_EQ(machine_.state(), CoordinatorState::kLaunching);
  join();
  tell(LauncherExited{139});
  now_ += 3.9;
  tell(ClockTick{});
  EXPECT_EQ(machine_.state(), CoordinatorState::kBackoff);
  now_ += 0.2;
  tell(ClockTick{});
  EXPECT_EQ(machine_.state(), CoordinatorState::kLaunching);
}

TEST_F(CoordinatorOfTwo, TurnsAStopIntoACheckpointAndExit75) {
  start_and_join();
  beat(5);
  tell(StopRequested{"SIGTERM"});
  EXPECT_EQ(take<SendStop>().at(0).rank, -1);
  EXPECT_TRUE(take<EndJob>().empty());
  commit(6);
  bye(75, 75, 75);
  expect_finish(75, CoordinatorState::kPreempted);
}

TEST_F(CoordinatorOfTwo, TellsARankThatReconnectsDuringAStopAgain) {
  start_and_join();
  beat(5);
  tell(StopRequested{"SIGTERM"});
  take<SendStop>();
  tell(RankJoined{1, 1, 2001});
  EXPECT_EQ(take<SendStop>().at(0).rank, 1);
}

TEST_F(CoordinatorOfTwo, KillsTheJobOnASecondStop) {
  start_and_join();
  beat(5);
  tell(StopRequested{"SIGINT"});
  tell(StopRequested{"SIGINT"});
  EXPECT_TRUE(take<EndJob>().at(0).at_once);
  tell(LauncherExited{137});
  expect_finish(75, CoordinatorState::kPreempted);
}

TEST_F(CoordinatorOfTwo, EndsWithExit75WhenRanksWereStoppedFromOutside) {
  start_and_join();
  beat(5);
  bye(75, 75, 75);
  expect_finish(75, CoordinatorState::kPreempted);
}

TEST_F(CoordinatorOfTwo, LaunchesAgainWhenRanksStopInGoodOrderAfterAHang) {
  start_and_join();
  beat(5);
  for (int second = 0; second < 16; ++second) {
    now_ += 1;
    tell(RankBeat{1, 0, 5 + second, Phase::kForwardBackward});
    tell(ClockTick{});
  }
  EXPECT_EQ(take<EndJob>().size(), 1u);
  commit(21);
  bye(75, 75, 75);
  EXPECT_EQ(machine_.state(), CoordinatorState::kBackoff);
}

TEST_F(CoordinatorOfTwo, FinishesWithoutALaunchOnAStopDuringBackOff) {
  start_and_join();
  tell(LauncherExited{139});
  take<LaunchJob>();
  tell(StopRequested{"SIGINT"});
  expect_finish(75, CoordinatorState::kPreempted);
  EXPECT_TRUE(take<LaunchJob>().empty());
}

TEST_F(CoordinatorOfTwo, EndsTheRanksOnAStopBeforeAnythingWasTrained) {
  tell(CoordinatorStart{});
  tell(LauncherStarted{1, 1000});
  tell(StopRequested{"SIGINT"});
  EXPECT_EQ(take<EndJob>().size(), 1u);
  tell(LauncherExited{1});
  expect_finish(75, CoordinatorState::kPreempted);
}

TEST_F(CoordinatorOfTwo, SucceedsWhenAStopComesDuringTheLastStep) {
  start_and_join();
  beat(5);
  tell(StopRequested{"SIGTERM"});
  bye(0, 0, 0);
  expect_finish(0, CoordinatorState::kSucceeded);
}

TEST_F(CoordinatorOfTwo, EndsRanksThatIgnoreAStop) {
  start_and_join();
  beat(5);
  tell(StopRequested{"SIGTERM"});
  for (int64_t i = 0; i < 305; ++i) run(1, 5 + i, 5 + i);
  EXPECT_FALSE(take<EndJob>().empty());
}

TEST_F(CoordinatorOfTwo, DoesNotTryALauncherAgainThatCannotStart) {
  tell(CoordinatorStart{});
  tell(LauncherFailed{"mpirun is not on PATH"});
  expect_finish(64, CoordinatorState::kFailed);
}

TEST_F(CoordinatorOfTwo, SaysWhenACheckpointCouldNotBeSavedAndGoesOn) {
  start_and_join();
  commit(20);
  beat(41);
  tell(RankPrepared{1, 0, 40});
  EXPECT_EQ(machine_.state(), CoordinatorState::kCheckpointing);
  tell(RankSaveFailed{1, 0, 40, "no space"});
  EXPECT_EQ(machine_.state(), CoordinatorState::kRunning);
  EXPECT_TRUE(noted("checkpoint_failed",
                    "step 40 was not saved: no space; the next start goes on from the checkpoint "
                    "of step 20"));
}

}  // namespace
}  // namespace espalier
