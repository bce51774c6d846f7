#include "launch/coordinator/coordinator.h"

namespace espalier {

Coordinator::Coordinator(WorldChoice world, const DeadlineConfig& deadlines, double (*jitter)())
    : world_(std::move(world)),
      deadlines_(deadlines),
      jitter_(jitter),
      watch_(deadlines),
      time_limit_(deadlines.drain) {
  watch_.start(world_.sizes.front(), /*now=*/0);
}

void Coordinator::enter(CoordinatorState state) {
  state_ = state;
  state_since_ = now_;
}

void Coordinator::note(std::string event, std::string text, int rank) {
  act(NoteEvent{std::move(event), std::move(text), rank});
}

// The view of a rank of the present generation; null for a zombie of an older one.
RankView* Coordinator::current(uint32_t generation, int rank) {
  return generation == generation_ ? watch_.find(rank) : nullptr;
}

// ---- launching ----------------------------------------------------------------------------------

void Coordinator::on_start(const CoordinatorStart& event) {
  generation_ = event.last_generation;
  last_commit_ = event.last_commit;
  if (!event.leftover_alive) {
    allocate();
    return;
  }
  const std::string which = "generation " + std::to_string(generation_);
  if (event.adopt_leftover) {
    note("adopted", "went on with " + which + ", which outlived its coordinator");
    watch_.start(event.leftover_ranks > 0 ? event.leftover_ranks : world_.sizes.front(), now_);
    commit_at_launch_ = last_commit_;
    enter(CoordinatorState::kRendezvous);
    return;
  }
  note("leftover", which + " is still running and was started with other settings; ending it");
  enter(CoordinatorState::kAllocating);
  act(EndLeftover{});
}

void Coordinator::on_leftover_gone() { allocate(); }

void Coordinator::allocate() {
  if (!world_.on_hosts) return launch({world_.sizes.front(), {}, ""});
  enter(CoordinatorState::kAllocating);
  next_look_.reset();
  waits_for_hosts_.clear();
  act(FindHosts{});
}

void Coordinator::on_hosts_found(const HostsFound& event) {
  const WorldPlan plan = plan_world(world_, event.hosts);
  if (plan.ranks > 0) return launch(plan);
  if (now_ - state_since_ > deadlines_.hosts) {
    return finish(CoordinatorState::kPreempted, kExitStopped,
                  "too few hosts for " + std::to_string(world_.sizes.back()) + " ranks, without " +
                      plan.without + "; " + next_start());
  }
  next_look_ = now_ + deadlines_.host_retry;
  if (waits_for_hosts_ == plan.without) return;
  waits_for_hosts_ = plan.without;
  note("waiting",
       "for room for " + std::to_string(world_.sizes.back()) + " ranks, without " + plan.without);
}

void Coordinator::on_tick_allocating() {
  if (!next_look_ || now_ < *next_look_) return;
  next_look_.reset();
  act(FindHosts{});
}

void Coordinator::launch(const WorldPlan& plan) {
  ++generation_;
  watch_.start(plan.ranks, now_);
  time_limit_.forget_processes();
  prepared_.clear();
  prepared_step_ = -1;
  failure_.reset();
  ending_since_.reset();
  killed_ = false;
  growing_ = false;
  looks_with_more_ = 0;
  next_look_ = now_ + deadlines_.host_retry;
  commit_at_launch_ = last_commit_;
  if (plan.ranks < world_.sizes.front()) {
    note("shrunk", "generation " + std::to_string(generation_) + " has " +
                       std::to_string(plan.ranks) + " of " + std::to_string(world_.sizes.front()) +
                       " ranks, without " + plan.without);
  }
  enter(CoordinatorState::kLaunching);
  act(LaunchJob{generation_, plan.ranks, plan.hosts});
}

// While fewer ranks run than should, hosts may come back.
void Coordinator::look_for_missing_hosts() {
  if (!world_.on_hosts || failure_ || static_cast<int>(ranks().size()) == world_.sizes.front() ||
      !watch_.any_trained() || !next_look_ || now_ < *next_look_) {
    return;
  }
  next_look_.reset();
  act(FindHosts{});
}

// Twice in a row, so that a host which comes and goes does not stop the others each time.
void Coordinator::on_hosts_found_running(const HostsFound& event) {
  next_look_ = now_ + deadlines_.host_retry;
  const WorldPlan plan = plan_world(world_, event.hosts);
  looks_with_more_ = plan.ranks > static_cast<int>(ranks().size()) ? looks_with_more_ + 1 : 0;
  if (looks_with_more_ < 2 || failure_) return;
  growing_ = true;
  const std::string why = "there is room for " + std::to_string(plan.ranks) + " ranks again";
  note("grow",
       why + ": asked the " + std::to_string(ranks().size()) + " to write a checkpoint and stop");
  act(SendStop{-1, why});
  enter(CoordinatorState::kDraining);
}

void Coordinator::on_launcher_started(const LauncherStarted& event) {
  if (event.generation != generation_) return;
  note("launched",
       "generation " + std::to_string(generation_) + ", launcher pid " + std::to_string(event.pid));
  enter(CoordinatorState::kRendezvous);
}

void Coordinator::on_launcher_failed(const LauncherFailed& event) {
  finish(CoordinatorState::kFailed, kExitUsage, event.what);
}

void Coordinator::on_joined(const RankJoined& event) {
  RankView* view = current(event.generation, event.rank);
  if (view == nullptr) return;
  const bool is_back = view->joined;
  watch_.join(event, now_);
  if (is_back) note("rejoined", rank_text(event.rank, *view) + " is back", event.rank);
  if (stop_why_ || growing_) act(SendStop{event.rank, stop_why_.value_or("more hosts are back")});
  const bool is_coming_up =
      state_ == CoordinatorState::kLaunching || state_ == CoordinatorState::kRendezvous;
  if (is_coming_up && watch_.all_joined()) {
    note("running", "all " + std::to_string(ranks().size()) + " ranks have joined");
    enter(CoordinatorState::kRunning);
  }
}

// ---- what ranks say -----------------------------------------------------------------------------

void Coordinator::on_beat(const RankBeat& event) {
  RankView* view = current(event.generation, event.rank);
  if (view == nullptr) return;
  if (view->suspect) {
    note("recovered", rank_text(event.rank, *view) + " is heard of again", event.rank);
  }
  watch_.beat(event, now_);
  if (event.rank == 0) time_limit_.beat(event.step, event.phase, now_);
}

void Coordinator::on_hung_up(const RankHungUp& event) {
  RankView* view = current(event.generation, event.rank);
  if (view == nullptr || view->bye || ending_since_) return;
  // A rank that lives may come back; one that does not will be silent, or is missed (find_lost).
  watch_.hang_up(event.rank, now_);
  if (!event.process_gone) return;
  fail({FailureClass::kCrash, rank_text(event.rank, *view) + " died", event.rank});
}

void Coordinator::on_error(const RankError& event) {
  if (current(event.generation, event.rank) == nullptr) return;
  fail({event.failure_class, "rank " + std::to_string(event.rank) + ": " + event.what, event.rank});
}

void Coordinator::on_prepared(const RankPrepared& event) {
  if (current(event.generation, event.rank) == nullptr || event.step < prepared_step_) return;
  if (event.step > prepared_step_) {
    prepared_.clear();
    prepared_step_ = event.step;
  }
  prepared_.insert(event.rank);
  time_limit_.preparing(now_);
  if (state_ == CoordinatorState::kRunning) enter(CoordinatorState::kCheckpointing);
  if (prepared_.size() == ranks().size()) act(AllowCommit{event.step});
}

void Coordinator::on_committed(const RankCommitted& event) {
  // Only what this generation was allowed to commit, or a coordinator before this one allowed.
  if (current(event.generation, event.rank) == nullptr) return;
  last_commit_ = event.step;
  launches_without_commit_ = 0;
  time_limit_.committed(now_);
  act(RecordCommit{event.generation, event.step});
  note("committed", "checkpoint of step " + std::to_string(event.step), event.rank);
  if (state_ == CoordinatorState::kCheckpointing) enter(CoordinatorState::kRunning);
}

void Coordinator::on_save_failed(const RankSaveFailed& event) {
  if (current(event.generation, event.rank) == nullptr) return;
  note("checkpoint_failed",
       "the checkpoint of step " + std::to_string(event.step) + " was not saved: " + event.why +
           "; " + next_start(),
       event.rank);
  if (state_ == CoordinatorState::kCheckpointing) enter(CoordinatorState::kRunning);
}

void Coordinator::on_bye(const RankBye& event) {
  if (RankView* view = current(event.generation, event.rank)) view->bye = event.exit_code;
}

// Keeps the first failure, which caused the others; one that forbids another launch counts more.
void Coordinator::fail(Failure failure) {
  const bool is_final = !is_relaunch_of_use(failure.failure_class);
  if (failure_ && (!is_final || !is_relaunch_of_use(failure_->failure_class))) return;
  if (!failure_) failure_at_ = now_;
  note("failure", failure.what, failure.rank);
  failure_ = std::move(failure);
}

}  // namespace espalier
