#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "launch/coordinator/coordinator_events.h"

namespace espalier {

struct CoordinatorLimits {
  int world_size = 1;
  Seconds suspect_after_s = 5;
  Seconds dead_after_s = 15;
  Seconds setup_deadline_s = 900;
  Seconds step_deadline_floor_s = 60;
  double step_deadline_factor = 5;  // times the slowest of the latest steps
  Seconds checkpoint_deadline_s = 600;
  Seconds evaluation_deadline_s = 900;
  Seconds drain_deadline_s = 300;  // from STOP to the last rank's end
  Seconds kill_grace_s = 10;       // from a request to the launcher to end, to SIGKILL
  Seconds late_watch_s = 2;        // a clock that jumped by more stood still for the coordinator
  Seconds lost_rank_grace_s = 5;   // a rank that hung up may come back; a dead one may not
  Seconds backoff_base_s = 1;
  Seconds backoff_cap_s = 300;
  int launches_without_commit = 3;
};

struct RankView {
  int pid = 0;
  bool joined = false;
  bool suspect = false;
  int64_t step = -1;
  std::string phase;
  int64_t work_done = 0;
  Seconds last_beat = 0;
  Seconds last_progress = 0;
  Seconds last_step_change = 0;
  std::optional<Seconds> hung_up_at;
  bool process_gone = false;
  std::optional<int> bye;
};

// Decides everything that the coordinator does. Pure: no clock, no sockets, no processes, so every
// failure can be played through in a test. Which function answers which event in which state is
// written in one table, in coordinator.cpp.
class Coordinator {
 public:
  // `jitter` in [0, 1) stretches back-offs; injected like the clock.
  Coordinator(CoordinatorLimits limits, double (*jitter)());

  std::vector<CoordinatorAction> handle(const CoordinatorEvent& event, Seconds now);

  CoordinatorState state() const { return state_; }
  bool finished() const { return state_ >= CoordinatorState::kSucceeded; }
  uint32_t generation() const { return generation_; }
  int64_t last_commit() const { return last_commit_; }
  int restarts() const { return restarts_; }
  bool stopping() const { return stop_why_.has_value(); }
  const std::vector<RankView>& ranks() const { return ranks_; }
  Seconds step_deadline() const;

 private:
  friend struct CoordinatorTable;
  struct Failure {
    std::string failure_class;
    std::string what;
    int rank = -1;
  };

  void on_start(const CoordinatorStart& event);
  void on_leftover_gone();
  void on_launcher_started(const LauncherStarted& event);
  void on_launcher_failed(const LauncherFailed& event);
  void on_launcher_exited(const LauncherExited& event);
  void on_joined(const RankJoined& event);
  void on_beat(const RankBeat& event);
  void on_hung_up(const RankHungUp& event);
  void on_error(const RankError& event);
  void on_prepared(const RankPrepared& event);
  void on_committed(const RankCommitted& event);
  void on_bye(const RankBye& event);
  void on_stop_idle(const StopRequested& event);
  void on_stop_running(const StopRequested& event);
  void on_stop_again(const StopRequested& event);
  void on_tick_backoff();
  void on_tick_running();
  void on_tick_draining();

  // In place: g++ 12 warns about moving a variant that holds no string as if it held one.
  template <class A>
  void act(A action) {
    actions_.emplace_back(std::in_place_type<A>, std::move(action));
  }
  void launch();
  void forgive_own_absence();
  void watch_ranks();
  void relaunch_or_give_up(const Failure& failure);
  void finish(CoordinatorState state, int exit_code, const std::string& why);
  void fail(Failure failure);
  void end_job();
  void enter(CoordinatorState state);
  void note(std::string event, std::string text, int rank = -1);
  RankView* current(uint32_t generation, int rank);
  Seconds deadline_of(const std::string& phase) const;

  CoordinatorLimits limits_;
  double (*jitter_)();
  CoordinatorState state_ = CoordinatorState::kIdle;
  uint32_t generation_ = 0;
  int64_t last_commit_ = -1;
  int64_t commit_at_launch_ = -1;
  int launches_without_commit_ = 0;
  int restarts_ = 0;
  std::vector<RankView> ranks_;
  std::set<int> prepared_;
  int64_t prepared_step_ = -1;
  std::deque<Seconds> step_times_;
  int64_t allowed_step_ = -1;
  std::optional<Failure> failure_;  // the first one of this generation, the cause of what follows
  Seconds failure_at_ = 0;
  std::optional<std::string> stop_why_;
  Seconds now_ = 0;
  Seconds state_since_ = 0;
  Seconds last_watch_ = 0;
  Seconds next_launch_ = 0;
  std::optional<Seconds> ending_since_;  // the launcher was asked to end the job
  bool killed_ = false;
  std::vector<CoordinatorAction> actions_;
};

}  // namespace espalier
