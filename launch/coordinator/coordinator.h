#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "launch/coordinator/coordinator_events.h"
#include "launch/coordinator/rank_watch.h"
#include "launch/coordinator/time_limit.h"
#include "launch/coordinator/world_choice.h"

namespace espalier {

// Decides everything that the coordinator does. Pure: no clock, no sockets, no processes, so every
// failure can be played through in a test. Which function answers which event in which state is
// written in one table, in coordinator_table.cpp; coordinator.cpp has launching and what ranks say,
// coordinator_ending.cpp how a launch and a run end.
class Coordinator {
 public:
  // `jitter` in [0, 1) stretches back-offs; injected like the clock.
  Coordinator(WorldChoice world, const DeadlineConfig& deadlines, double (*jitter)());

  std::vector<CoordinatorAction> handle(const CoordinatorEvent& event, Seconds now);

  CoordinatorState state() const { return state_; }
  bool finished() const { return state_ >= CoordinatorState::kSucceeded; }
  uint32_t generation() const { return generation_; }
  int64_t last_commit() const { return last_commit_; }
  int restarts() const { return restarts_; }
  bool stopping() const { return stop_why_.has_value(); }
  const TimeLimit& time_limit() const { return time_limit_; }
  const std::vector<RankView>& ranks() const { return watch_.ranks(); }
  Seconds step_deadline() const { return watch_.step_deadline(); }

 private:
  friend struct CoordinatorTable;
  struct Failure {
    FailureClass failure_class;
    std::string what;
    int rank = -1;
  };

  void on_start(const CoordinatorStart& event);
  void on_leftover_gone();
  void on_hosts_found(const HostsFound& event);
  void on_hosts_found_running(const HostsFound& event);
  void on_launcher_started(const LauncherStarted& event);
  void on_launcher_failed(const LauncherFailed& event);
  void on_launcher_exited(const LauncherExited& event);
  void on_joined(const RankJoined& event);
  void on_beat(const RankBeat& event);
  void on_hung_up(const RankHungUp& event);
  void on_error(const RankError& event);
  void on_prepared(const RankPrepared& event);
  void on_committed(const RankCommitted& event);
  void on_save_failed(const RankSaveFailed& event);
  void on_bye(const RankBye& event);
  void on_stop_idle(const StopRequested& event);
  void on_stop_running(const StopRequested& event);
  void on_stop_again(const StopRequested& event);
  void on_tick_allocating();
  void on_job_ends(const JobEnds& event);
  void on_tick_backoff();
  void on_tick_running();
  void on_tick_draining();

  // In place: g++ 12 warns about moving a variant that holds no string as if it held one.
  template <class A>
  void act(A action) {
    actions_.emplace_back(std::in_place_type<A>, std::move(action));
  }
  void allocate();
  void launch(const WorldPlan& plan);
  void look_for_missing_hosts();
  void watch_ranks();
  std::optional<StopRequested> time_is_up() const;
  bool finish_if_over(const LauncherExited& event);
  void relaunch_or_give_up(const Failure& failure);
  void finish(CoordinatorState state, int exit_code, const std::string& why);
  void fail(Failure failure);
  void end_job();
  void enter(CoordinatorState state);
  void note(std::string event, std::string text, int rank = -1);
  std::string next_start() const;
  RankView* current(uint32_t generation, int rank);

  const WorldChoice world_;
  DeadlineConfig deadlines_;
  double (*jitter_)();
  CoordinatorState state_ = CoordinatorState::kIdle;
  uint32_t generation_ = 0;
  int64_t last_commit_ = -1;
  int64_t commit_at_launch_ = -1;
  int64_t launches_without_commit_ = 0;
  int restarts_ = 0;
  RankWatch watch_;
  std::set<int> prepared_;
  int64_t prepared_step_ = -1;
  std::optional<Failure> failure_;  // the first one of this generation, the cause of what follows
  Seconds failure_at_ = 0;
  std::optional<std::string> stop_why_;
  std::optional<Seconds> next_look_;  // for hosts; none while an answer is awaited
  int looks_with_more_ = 0;           // in a row, that found room for a larger world
  bool growing_ = false;              // the ranks were asked to stop, to be launched as more
  std::string waits_for_hosts_;       // what was last said about that
  bool stopped_by_person_ = false;
  TimeLimit time_limit_;
  Seconds now_ = 0;
  Seconds state_since_ = 0;
  Seconds next_launch_ = 0;
  std::optional<Seconds> ending_since_;  // the launcher was asked to end the job
  bool killed_ = false;
  std::vector<CoordinatorAction> actions_;
};

}  // namespace espalier
