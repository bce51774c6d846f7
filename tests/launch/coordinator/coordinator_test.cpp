#include "launch/coordinator/coordinator.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace espalier {
namespace {

// A coordinator of two ranks, and a clock that the test moves.
class CoordinatorOfTwo : public testing::Test {
 protected:
  CoordinatorOfTwo() : machine_(limits(), [] { return 1.0; }) {}

  static CoordinatorLimits limits() {
    CoordinatorLimits out;
    out.world_size = 2;
    return out;
  }

  void tell(const CoordinatorEvent& event) {
    for (auto& action : machine_.handle(event, now_)) actions_.push_back(std::move(action));
  }
  template <class A>
  std::vector<A> take() {
    std::vector<A> found;
    for (const auto& action : actions_) {
      if (const A* a = std::get_if<A>(&action)) found.push_back(*a);
    }
    std::erase_if(actions_,
                  [](const CoordinatorAction& a) { return std::holds_alternative<A>(a); });
    return found;
  }
  bool noted(const std::string& event, const std::string& text) const {
    return std::any_of(actions_.begin(), actions_.end(), [&](const CoordinatorAction& action) {
      const NoteEvent* note = std::get_if<NoteEvent>(&action);
      return note != nullptr && note->event == event && note->text.find(text) != std::string::npos;
    });
  }
  void start_and_join() {
    tell(CoordinatorStart{});
    join();
  }
  void join() {
    const uint32_t g = machine_.generation();
    tell(LauncherStarted{g, 1000});
    tell(RankJoined{g, 0, 2000});
    tell(RankJoined{g, 1, 2001});
  }
  void beat(int64_t step, const std::string& phase = "train") {
    for (int rank : {0, 1}) tell(RankBeat{machine_.generation(), rank, step, phase});
  }
  // Both ranks beat every second, at the steps given.
  void run(int seconds, int64_t step_of_0, int64_t step_of_1) {
    for (int i = 0; i < seconds && !machine_.finished(); ++i) {
      now_ += 1;
      tell(RankBeat{machine_.generation(), 0, step_of_0, "train"});
      tell(RankBeat{machine_.generation(), 1, step_of_1, "train"});
      tell(ClockTick{});
    }
  }
  void commit(int64_t step) {
    const uint32_t g = machine_.generation();
    tell(RankPrepared{g, 0, step});
    tell(RankPrepared{g, 1, step});
    tell(RankCommitted{g, 0, step});
  }
  void bye(int code_of_0, int code_of_1, int status) {
    tell(RankBye{machine_.generation(), 0, code_of_0});
    tell(RankBye{machine_.generation(), 1, code_of_1});
    tell(LauncherExited{status});
  }
  void expect_finish(int exit_code, CoordinatorState state) {
    const auto finishes = take<FinishRun>();
    ASSERT_EQ(finishes.size(), 1u);
    EXPECT_EQ(finishes[0].exit_code, exit_code) << finishes[0].why;
    EXPECT_EQ(machine_.state(), state);
  }

  Coordinator machine_;
  Seconds now_ = 100;
  std::vector<CoordinatorAction> actions_;
};

TEST_F(CoordinatorOfTwo, LaunchesGenerationOneAndRunsWhenAllRanksHaveJoined) {
  tell(CoordinatorStart{});
  const auto launches = take<LaunchJob>();
  ASSERT_EQ(launches.size(), 1u);
  EXPECT_EQ(launches[0].generation, 1u);
  join();
  EXPECT_EQ(machine_.state(), CoordinatorState::kRunning);
}

TEST_F(CoordinatorOfTwo, TakesTheGenerationAfterTheJournals) {
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

TEST_F(CoordinatorOfTwo, AdoptedRanksThatWaitWithACheckpointGetTheirAnswer) {
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

TEST_F(CoordinatorOfTwo, RefusesWhatAnOldGenerationSays) {
  tell(CoordinatorStart{7, 40, false, false});
  join();
  tell(RankPrepared{7, 0, 80});
  tell(RankPrepared{7, 1, 80});
  tell(RankCommitted{7, 0, 80});
  EXPECT_TRUE(take<AllowCommit>().empty());
  EXPECT_EQ(machine_.last_commit(), 40);
}

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

TEST_F(CoordinatorOfTwo, HelpsALauncherThatDoesNotNoticeADeadRank) {
  start_and_join();
  beat(5);
  tell(RankHungUp{1, 1, true});
  run(6, 5, 5);
  EXPECT_EQ(take<EndJob>().size(), 1u);
  run(11, 5, 5);
  EXPECT_TRUE(take<EndJob>().at(0).at_once);
}

TEST_F(CoordinatorOfTwo, ARankThatHungUpButLivesMayComeBack) {
  start_and_join();
  beat(5);
  tell(RankHungUp{1, 1, false});
  now_ += 3;
  tell(RankJoined{1, 1, 2001});
  run(4, 6, 6);
  EXPECT_TRUE(take<EndJob>().empty());
  EXPECT_EQ(machine_.state(), CoordinatorState::kRunning);
}

TEST_F(CoordinatorOfTwo, ASilentRankIsSuspectThenDead) {
  start_and_join();
  beat(5);
  for (int second = 0; second < 20; ++second) {
    now_ += 1;
    tell(RankBeat{1, 0, 5 + second, "train"});
    tell(ClockTick{});
  }
  EXPECT_TRUE(noted("suspect", "rank 1"));
  EXPECT_TRUE(noted("failure", "rank 1"));
  EXPECT_EQ(take<EndJob>().size(), 1u);
}

TEST_F(CoordinatorOfTwo, ACoordinatorThatWasAwayDoesNotBlameTheRanks) {
  start_and_join();
  run(3, 5, 5);
  now_ += 120;  // suspended; the ranks' beats wait in the sockets
  tell(ClockTick{});
  run(3, 6, 6);
  EXPECT_TRUE(take<EndJob>().empty());
  EXPECT_FALSE(noted("suspect", "rank"));
}

TEST_F(CoordinatorOfTwo, ARankThatBeatsWithoutProgressIsNamed) {
  start_and_join();
  beat(5);
  run(30, 5, 6);  // rank 1 finished one more step, then waits for rank 0
  run(40, 5, 6);
  EXPECT_TRUE(noted("failure", "rank 0"));
  EXPECT_EQ(take<EndJob>().size(), 1u);
}

TEST_F(CoordinatorOfTwo, PhasesHaveTheirOwnDeadlines) {
  start_and_join();
  beat(5, "checkpoint");
  for (int i = 0; i < 590; ++i) {
    now_ += 1;
    beat(5, "checkpoint");
    tell(ClockTick{});
  }
  EXPECT_TRUE(take<EndJob>().empty());
  for (int i = 0; i < 20; ++i) {
    now_ += 1;
    beat(5, "checkpoint");
    tell(ClockTick{});
  }
  EXPECT_FALSE(take<EndJob>().empty());
}

TEST_F(CoordinatorOfTwo, LongWorkThatMovesOnIsNoHang) {
  start_and_join();
  for (int64_t i = 0; i < 2000; ++i) {
    now_ += 1;
    for (int rank : {0, 1}) tell(RankBeat{machine_.generation(), rank, -1, "setup", i / 60});
    tell(ClockTick{});
  }
  EXPECT_TRUE(take<EndJob>().empty());
}

TEST_F(CoordinatorOfTwo, SlowStepsStretchTheStepDeadline) {
  start_and_join();
  for (int64_t step = 1; step < 5; ++step) run(40, step, step);
  EXPECT_NEAR(machine_.step_deadline(), 200, 10);
}

TEST_F(CoordinatorOfTwo, RanksThatNeverJoinEndTheLaunch) {
  tell(CoordinatorStart{});
  tell(LauncherStarted{1, 1000});
  tell(RankJoined{1, 0, 2000});
  for (int i = 0; i < 905; ++i) {
    now_ += 1;
    tell(RankBeat{1, 0, i, "setup"});
    tell(ClockTick{});
  }
  EXPECT_TRUE(noted("failure", "rank 1 never joined"));
  EXPECT_FALSE(take<EndJob>().empty());
}

struct FinalClass {
  const char* failure_class;
  int exit_code;
};
class FinalFailures : public CoordinatorOfTwo, public testing::WithParamInterface<FinalClass> {};

TEST_P(FinalFailures, AreNotTriedAgain) {
  start_and_join();
  tell(RankError{1, 0, "communication", "peer lost"});
  tell(RankError{1, 1, GetParam().failure_class, "the cause"});
  tell(LauncherExited{1});
  expect_finish(GetParam().exit_code, CoordinatorState::kFailed);
}

INSTANTIATE_TEST_SUITE_P(Classes, FinalFailures,
                         testing::Values(FinalClass{"config", 64}, FinalClass{"data", 64},
                                         FinalClass{"weights", 64},
                                         FinalClass{"do_not_requeue", 93},
                                         FinalClass{"out_of_memory", 93}),
                         [](const auto& i) { return std::string(i.param.failure_class); });

TEST_F(CoordinatorOfTwo, CrashesAreTriedAgain) {
  start_and_join();
  tell(RankError{1, 0, "internal", "boom"});
  tell(LauncherExited{70});
  EXPECT_EQ(machine_.state(), CoordinatorState::kBackoff);
}

TEST_F(CoordinatorOfTwo, ThreeLaunchesWithoutACommitAreEnough) {
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

TEST_F(CoordinatorOfTwo, ACommitFillsTheBudgetAgain) {
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

TEST_F(CoordinatorOfTwo, BackOffDoublesUntilACommit) {
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

TEST_F(CoordinatorOfTwo, StopBecomesACheckpointAndExit75) {
  start_and_join();
  beat(5);
  tell(StopRequested{"SIGTERM"});
  EXPECT_EQ(take<SendStop>().at(0).rank, -1);
  EXPECT_TRUE(take<EndJob>().empty());
  commit(6);
  bye(75, 75, 75);
  expect_finish(75, CoordinatorState::kPreempted);
}

TEST_F(CoordinatorOfTwo, ARankThatReconnectsDuringAStopIsToldAgain) {
  start_and_join();
  beat(5);
  tell(StopRequested{"SIGTERM"});
  take<SendStop>();
  tell(RankJoined{1, 1, 2001});
  EXPECT_EQ(take<SendStop>().at(0).rank, 1);
}

TEST_F(CoordinatorOfTwo, ASecondStopEndsAtOnce) {
  start_and_join();
  beat(5);
  tell(StopRequested{"SIGINT"});
  tell(StopRequested{"SIGINT"});
  EXPECT_TRUE(take<EndJob>().at(0).at_once);
  tell(LauncherExited{137});
  expect_finish(75, CoordinatorState::kPreempted);
}

TEST_F(CoordinatorOfTwo, ARankThatIsStoppedFromOutsideEndsTheRunWithExit75) {
  start_and_join();
  beat(5);
  bye(75, 75, 75);
  expect_finish(75, CoordinatorState::kPreempted);
}

TEST_F(CoordinatorOfTwo, RanksThatStopInGoodOrderAfterAHangAreLaunchedAgain) {
  start_and_join();
  beat(5);
  for (int second = 0; second < 16; ++second) {
    now_ += 1;
    tell(RankBeat{1, 0, 5 + second, "train"});
    tell(ClockTick{});
  }
  EXPECT_EQ(take<EndJob>().size(), 1u);
  commit(21);
  bye(75, 75, 75);
  EXPECT_EQ(machine_.state(), CoordinatorState::kBackoff);
}

TEST_F(CoordinatorOfTwo, StopDuringBackOffFinishesWithoutALaunch) {
  start_and_join();
  tell(LauncherExited{139});
  take<LaunchJob>();
  tell(StopRequested{"SIGINT"});
  expect_finish(75, CoordinatorState::kPreempted);
  EXPECT_TRUE(take<LaunchJob>().empty());
}

TEST_F(CoordinatorOfTwo, StopBeforeAnythingWasTrainedEndsTheRanks) {
  tell(CoordinatorStart{});
  tell(LauncherStarted{1, 1000});
  tell(StopRequested{"SIGINT"});
  EXPECT_EQ(take<EndJob>().size(), 1u);
  tell(LauncherExited{1});
  expect_finish(75, CoordinatorState::kPreempted);
}

TEST_F(CoordinatorOfTwo, StopDuringTheLastStepIsStillASuccess) {
  start_and_join();
  beat(5);
  tell(StopRequested{"SIGTERM"});
  bye(0, 0, 0);
  expect_finish(0, CoordinatorState::kSucceeded);
}

TEST_F(CoordinatorOfTwo, RanksThatIgnoreAStopAreEnded) {
  start_and_join();
  beat(5);
  tell(StopRequested{"SIGTERM"});
  for (int64_t i = 0; i < 305; ++i) run(1, 5 + i, 5 + i);
  EXPECT_FALSE(take<EndJob>().empty());
}

TEST_F(CoordinatorOfTwo, ALauncherThatCannotStartIsNotTriedAgain) {
  tell(CoordinatorStart{});
  tell(LauncherFailed{"mpirun is not on PATH"});
  expect_finish(64, CoordinatorState::kFailed);
}

}  // namespace
}  // namespace espalier
