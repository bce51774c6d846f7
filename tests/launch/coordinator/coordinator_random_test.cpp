#include <gtest/gtest.h>

#include <random>

#include "launch/coordinator/coordinator.h"

namespace espalier {
namespace {

// Plays random events against a coordinator of two ranks, and checks every action it takes: only
// one job at a time, generations that only grow, commits of the present one, nothing after the end.
class RandomPlay {
 public:
  explicit RandomPlay(uint32_t seed)
      : rng_(seed), machine_(WorldChoice{{2}, false}, DeadlineConfig{}, [] { return 0.5; }) {
    tell(CoordinatorStart{});
  }

  void turn() {
    now_ += static_cast<double>(rng_() % 1000) / 200;
    const uint32_t generation = generation_ - (one_in(8) ? 1 : 0);
    const int rank = static_cast<int>(rng_() % 3) - (one_in(10) ? 1 : 0);
    const uint32_t kind = rng_() % 12;
    if (kind == 0) tell(LauncherStarted{generation, 5});
    if (kind == 1 && job_is_alive_ && one_in(4)) {
      job_is_alive_ = false;
      tell(LauncherExited{static_cast<int>(rng_() % 140)});
    }
    if (kind == 2) tell(RankJoined{generation, rank, 7});
    if (kind == 3) tell(RankHungUp{generation, rank, one_in(2)});
    if (kind == 4) tell(RankPrepared{generation, rank, step_});
    if (kind == 5) tell(RankCommitted{generation, 0, step_++});
    if (kind == 6) tell(RankBye{generation, rank, one_in(2) ? kExitDone : kExitStopped});
    if (kind == 7 && one_in(40)) tell(StopRequested{"x"});
    if (kind == 8) tell(RankError{generation, rank, FailureClass::kInternal, "x"});
    if (kind == 9) tell(ClockTick{});
    if (kind > 9) tell(RankBeat{generation, rank, step_, random_phase()});
  }

  bool finished() const { return machine_.finished(); }
  int finishes() const { return finishes_; }

 private:
  bool one_in(uint32_t n) { return rng_() % n == 0; }
  Phase random_phase() { return kPhases[rng_() % kPhases.size()]; }

  void tell(const CoordinatorEvent& event) {
    for (const auto& action : machine_.handle(event, now_)) check(action);
  }

  void check(const CoordinatorAction& action) {
    ASSERT_EQ(finishes_, 0);
    if (const auto* launch = std::get_if<LaunchJob>(&action)) {
      ASSERT_FALSE(job_is_alive_);
      ASSERT_EQ(launch->generation, generation_ + 1);
      generation_ = launch->generation;
      job_is_alive_ = true;
    } else if (const auto* commit = std::get_if<RecordCommit>(&action)) {
      ASSERT_EQ(commit->generation, generation_);
    } else if (std::holds_alternative<FinishRun>(action)) {
      ++finishes_;
    }
  }

  std::mt19937 rng_;
  Coordinator machine_;
  Seconds now_ = 0;
  bool job_is_alive_ = false;
  int finishes_ = 0;
  uint32_t generation_ = 0;
  int64_t step_ = 0;
};

TEST(Coordinator, KeepsItsInvariantsUnderRandomEvents) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    RandomPlay play(seed);
    for (int i = 0; i < 400; ++i) {
      play.turn();
      if (testing::Test::HasFatalFailure()) FAIL() << "seed " << seed;
    }
    EXPECT_EQ(play.finished(), play.finishes() == 1);
  }
}

}  // namespace
}  // namespace espalier
