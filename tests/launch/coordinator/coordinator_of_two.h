#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "launch/coordinator/coordinator.h"

namespace espalier {

// A coordinator, what it has asked for so far, and a clock that the test moves.
class PlayedCoordinator : public testing::Test {
 protected:
  explicit PlayedCoordinator(const WorldChoice& world)
      : machine_(world, DeadlineConfig{}, [] { return 1.0; }) {}

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

  Coordinator machine_;
  Seconds now_ = 100;
  std::vector<CoordinatorAction> actions_;
};

// Two ranks, wherever the launcher puts them.
class CoordinatorOfTwo : public PlayedCoordinator {
 protected:
  CoordinatorOfTwo() : PlayedCoordinator(WorldChoice{{2}, false}) {}

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
  void beat(int64_t step, Phase phase = Phase::kForwardBackward) {
    for (int rank : {0, 1}) tell(RankBeat{machine_.generation(), rank, step, phase});
  }
  // So many seconds, in which both ranks beat without making progress.
  void stall(int seconds, int64_t step, Phase phase) {
    for (int i = 0; i < seconds; ++i) {
      now_ += 1;
      beat(step, phase);
      tell(ClockTick{});
    }
  }
  // Both ranks beat every second, at the steps given.
  void run(int seconds, int64_t step_of_0, int64_t step_of_1) {
    for (int i = 0; i < seconds && !machine_.finished(); ++i) {
      now_ += 1;
      tell(RankBeat{machine_.generation(), 0, step_of_0, Phase::kForwardBackward});
      tell(RankBeat{machine_.generation(), 1, step_of_1, Phase::kForwardBackward});
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
};

}  // namespace espalier
