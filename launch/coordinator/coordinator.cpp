#include "launch/coordinator/coordinator.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace espalier {
namespace {

constexpr size_t kStepTimesKept = 100;

// The run cannot get better by being started again: exit code for each such class. Anything else is
// a crash, a hang or a lost peer, and is worth another launch.
std::optional<int> final_exit_code(const std::string& failure_class) {
  if (failure_class == "config" || failure_class == "data" || failure_class == "weights") return 64;
  if (failure_class == "do_not_requeue" || failure_class == "out_of_memory") return 93;
  return std::nullopt;
}

bool is_step_phase(const std::string& phase) {
  return phase == "train" || phase == "step" || phase == "data" || phase == "forward_backward" ||
         phase == "reduce" || phase == "optimizer";
}

std::string rank_text(int rank, const RankView& view) {
  return "rank " + std::to_string(rank) + " (pid " + std::to_string(view.pid) + ")";
}

}  // namespace

std::string_view name_of(CoordinatorState state) {
  constexpr std::string_view kNames[] = {"IDLE",      "ALLOCATING",    "LAUNCHING", "RENDEZVOUS",
                                         "RUNNING",   "CHECKPOINTING", "DRAINING",  "BACKOFF",
                                         "SUCCEEDED", "PREEMPTED",     "FAILED"};
  return kNames[static_cast<size_t>(state)];
}

// Which function answers which event in which state. What is not listed is ignored: a message that
// comes late is no fault.
struct CoordinatorTable {
  using State = CoordinatorState;
  using Handler = void (*)(Coordinator&, const CoordinatorEvent&);
  struct Row {
    unsigned states;
    size_t event;
    Handler handler;
  };

  static constexpr unsigned in(State state) { return 1u << static_cast<unsigned>(state); }
  template <class E>
  static constexpr size_t kind() {
    return CoordinatorEvent(std::in_place_type<E>).index();
  }
  template <class E, void (Coordinator::*Function)(const E&)>
  static Row row(unsigned states) {
    return {states, kind<E>(), [](Coordinator& machine, const CoordinatorEvent& e) {
              (machine.*Function)(std::get<E>(e));
            }};
  }
  template <class E, void (Coordinator::*Function)()>
  static Row row(unsigned states) {
    return {states, kind<E>(),
            [](Coordinator& machine, const CoordinatorEvent&) { (machine.*Function)(); }};
  }

  static const std::vector<Row>& rows() {
    using C = Coordinator;
    constexpr unsigned kComing = in(State::kLaunching) | in(State::kRendezvous);
    constexpr unsigned kUp = in(State::kRunning) | in(State::kCheckpointing);
    constexpr unsigned kDraining = in(State::kDraining);
    constexpr unsigned kAlive = kComing | kUp | kDraining;
    constexpr unsigned kWaiting = in(State::kIdle) | in(State::kAllocating) | in(State::kBackoff);
    static const std::vector<Row> table = {
        row<CoordinatorStart, &C::on_start>(in(State::kIdle)),
        row<LeftoverGone, &C::on_leftover_gone>(in(State::kAllocating)),
        row<LauncherStarted, &C::on_launcher_started>(in(State::kLaunching)),
        row<LauncherFailed, &C::on_launcher_failed>(in(State::kLaunching)),
        row<LauncherExited, &C::on_launcher_exited>(kAlive),
        row<RankJoined, &C::on_joined>(kAlive),
        row<RankBeat, &C::on_beat>(kAlive),
        row<RankHungUp, &C::on_hung_up>(kAlive),
        row<RankError, &C::on_error>(kAlive),
        row<RankPrepared, &C::on_prepared>(kAlive),
        row<RankCommitted, &C::on_committed>(kAlive),
        row<RankBye, &C::on_bye>(kAlive),
        row<StopRequested, &C::on_stop_idle>(kWaiting),
        row<StopRequested, &C::on_stop_running>(kComing | kUp),
        row<StopRequested, &C::on_stop_again>(kDraining),
        row<ClockTick, &C::on_tick_backoff>(in(State::kBackoff)),
        row<ClockTick, &C::on_tick_running>(kComing | kUp),
        row<ClockTick, &C::on_tick_draining>(kDraining),
    };
    return table;
  }
};

Coordinator::Coordinator(CoordinatorLimits limits, double (*jitter)())
    : limits_(limits), jitter_(jitter) {}

std::vector<CoordinatorAction> Coordinator::handle(const CoordinatorEvent& event, Seconds now) {
  now_ = now;
  actions_.clear();
  for (const auto& row : CoordinatorTable::rows()) {
    if ((row.states & CoordinatorTable::in(state_)) != 0 && row.event == event.index()) {
      row.handler(*this, event);
      break;
    }
  }
  return std::move(actions_);
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
  if (generation != generation_ || rank < 0 || rank >= static_cast<int>(ranks_.size())) {
    return nullptr;
  }
  return &ranks_[static_cast<size_t>(rank)];
}

Seconds Coordinator::step_deadline() const {
  const auto slowest = std::max_element(step_times_.begin(), step_times_.end());
  return slowest == step_times_.end()
             ? limits_.step_deadline_floor_s
             : std::max(limits_.step_deadline_floor_s, limits_.step_deadline_factor * *slowest);
}

Seconds Coordinator::deadline_of(const std::string& phase) const {
  if (is_step_phase(phase)) return step_deadline();
  if (phase.starts_with("checkpoint")) return limits_.checkpoint_deadline_s;
  if (phase.starts_with("evaluat")) return limits_.evaluation_deadline_s;
  return limits_.setup_deadline_s;
}

// ---- launching ----------------------------------------------------------------------------------

void Coordinator::on_start(const CoordinatorStart& event) {
  generation_ = event.last_generation;
  last_commit_ = event.last_commit;
  if (!event.leftover_alive) {
    launch();
    return;
  }
  const std::string which = "generation " + std::to_string(generation_);
  if (event.adopt_leftover) {
    note("adopted", "went on with " + which + ", which outlived its coordinator");
    ranks_.assign(static_cast<size_t>(limits_.world_size), RankView{});
    commit_at_launch_ = last_commit_;
    last_watch_ = now_;
    enter(CoordinatorState::kRendezvous);
    return;
  }
  note("leftover", which + " is still running and was started with other settings; ending it");
  enter(CoordinatorState::kAllocating);
  act(EndLeftover{});
}

void Coordinator::on_leftover_gone() { launch(); }

void Coordinator::launch() {
  ++generation_;
  ranks_.assign(static_cast<size_t>(limits_.world_size), RankView{});
  prepared_.clear();
  prepared_step_ = allowed_step_ = -1;
  step_times_.clear();
  failure_.reset();
  ending_since_.reset();
  killed_ = false;
  last_watch_ = now_;
  commit_at_launch_ = last_commit_;
  enter(CoordinatorState::kLaunching);
  act(LaunchJob{generation_});
}

void Coordinator::on_launcher_started(const LauncherStarted& event) {
  if (event.generation != generation_) return;
  note("launched",
       "generation " + std::to_string(generation_) + ", launcher pid " + std::to_string(event.pid));
  enter(CoordinatorState::kRendezvous);
}

void Coordinator::on_launcher_failed(const LauncherFailed& event) {
  finish(CoordinatorState::kFailed, 64, event.what);
}

void Coordinator::on_joined(const RankJoined& event) {
  RankView* view = current(event.generation, event.rank);
  if (view == nullptr) return;
  const bool again = view->joined;
  view->joined = true;
  view->pid = event.pid;
  view->hung_up_at.reset();
  view->process_gone = false;
  view->suspect = false;
  view->last_beat = now_;
  if (!again) view->last_progress = view->last_step_change = now_;
  if (again) note("rejoined", rank_text(event.rank, *view) + " is back", event.rank);
  if (stop_why_) act(SendStop{event.rank, *stop_why_});
  const bool all = std::all_of(ranks_.begin(), ranks_.end(), [](auto& r) { return r.joined; });
  if (all && (state_ == CoordinatorState::kLaunching || state_ == CoordinatorState::kRendezvous)) {
    note("running", "all " + std::to_string(ranks_.size()) + " ranks have joined");
    enter(CoordinatorState::kRunning);
  }
}

// ---- what ranks say -----------------------------------------------------------------------------

void Coordinator::on_beat(const RankBeat& event) {
  RankView* view = current(event.generation, event.rank);
  if (view == nullptr) return;
  view->last_beat = now_;
  if (view->suspect) {
    view->suspect = false;
    note("recovered", rank_text(event.rank, *view) + " is heard of again", event.rank);
  }
  if (event.step == view->step && event.phase == view->phase &&
      event.work_done == view->work_done) {
    return;
  }
  view->last_progress = now_;
  if (event.step != view->step) {
    if (view->step >= 0 && event.step > view->step) {
      step_times_.push_back((now_ - view->last_step_change) /
                            static_cast<double>(event.step - view->step));
      if (step_times_.size() > kStepTimesKept) step_times_.pop_front();
    }
    view->last_step_change = now_;
  }
  view->step = event.step;
  view->phase = event.phase;
  view->work_done = event.work_done;
}

void Coordinator::on_hung_up(const RankHungUp& event) {
  RankView* view = current(event.generation, event.rank);
  if (view == nullptr || view->bye) return;
  if (!view->hung_up_at) view->hung_up_at = now_;
  view->process_gone = event.process_gone;
  if (!event.process_gone || ending_since_) return;
  fail({"crash", rank_text(event.rank, *view) + " died", event.rank});
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
  if (state_ == CoordinatorState::kRunning) enter(CoordinatorState::kCheckpointing);
  if (prepared_.size() == ranks_.size()) {
    allowed_step_ = event.step;
    act(AllowCommit{event.step});
  }
}

void Coordinator::on_committed(const RankCommitted& event) {
  // Only what this generation was allowed to commit, or a coordinator before this one allowed.
  if (current(event.generation, event.rank) == nullptr) return;
  last_commit_ = event.step;
  launches_without_commit_ = 0;
  act(RecordCommit{event.generation, event.step});
  note("committed", "checkpoint of step " + std::to_string(event.step), event.rank);
  if (state_ == CoordinatorState::kCheckpointing) enter(CoordinatorState::kRunning);
}

void Coordinator::on_bye(const RankBye& event) {
  if (RankView* view = current(event.generation, event.rank)) view->bye = event.exit_code;
}

// Keeps the first failure, which caused the others; one that forbids another launch counts more.
void Coordinator::fail(Failure failure) {
  const bool is_final = final_exit_code(failure.failure_class).has_value();
  if (failure_ && (!is_final || final_exit_code(failure_->failure_class))) return;
  if (!failure_) failure_at_ = now_;
  note("failure", failure.what, failure.rank);
  failure_ = std::move(failure);
}

// ---- watching -----------------------------------------------------------------------------------

void Coordinator::on_tick_running() { watch_ranks(); }

// A coordinator that was suspended, or got no processor, has beats waiting unread; they are not
// late.
void Coordinator::forgive_own_absence() {
  const Seconds absence = now_ - last_watch_;
  last_watch_ = now_;
  if (absence < limits_.late_watch_s) return;
  for (auto& view : ranks_) {
    view.last_beat = std::min(now_, view.last_beat + absence);
    view.last_progress = std::min(now_, view.last_progress + absence);
  }
}

void Coordinator::watch_ranks() {
  forgive_own_absence();
  // The launcher usually ends the job within two seconds of a rank's death; if not, help it.
  if (failure_ && now_ - failure_at_ > limits_.lost_rank_grace_s) return end_job();

  int stalled = -1;
  std::string missing;
  for (int rank = 0; rank < static_cast<int>(ranks_.size()); ++rank) {
    RankView& view = ranks_[static_cast<size_t>(rank)];
    if (view.bye) continue;
    if (!view.joined) {
      missing += (missing.empty() ? "" : ", ") + std::to_string(rank);
      continue;
    }
    const Seconds silence = now_ - view.last_beat;
    if (silence > limits_.dead_after_s) {
      fail({"hang",
            rank_text(rank, view) + " has been silent for " + std::to_string(std::lround(silence)) +
                " s (phase " + view.phase + ", step " + std::to_string(view.step) + ")",
            rank});
      return end_job();
    }
    if (silence > limits_.suspect_after_s && !view.suspect) {
      view.suspect = true;
      note("suspect",
           rank_text(rank, view) + " has not been heard of for " +
               std::to_string(std::lround(silence)) + " s",
           rank);
    }
    // When one rank stops, all the others soon wait for it: the culprit is the one that made no
    // progress for longest.
    if (now_ - view.last_progress > deadline_of(view.phase) &&
        (stalled < 0 || view.last_progress < ranks_[static_cast<size_t>(stalled)].last_progress)) {
      stalled = rank;
    }
  }
  if (stalled >= 0) {
    const RankView& view = ranks_[static_cast<size_t>(stalled)];
    fail({"hang",
          rank_text(stalled, view) + " made no progress for " +
              std::to_string(std::lround(now_ - view.last_progress)) + " s in phase " +
              (view.phase.empty() ? "setup" : view.phase) + ", step " + std::to_string(view.step),
          stalled});
    return end_job();
  }
  if (!missing.empty() && now_ - state_since_ > limits_.setup_deadline_s) {
    fail({"hang", "rank " + missing + " never joined", -1});
    end_job();
  }
}

// ---- ending -------------------------------------------------------------------------------------

void Coordinator::end_job() {
  if (ending_since_) return;
  ending_since_ = now_;
  act(EndJob{false, failure_ ? failure_->what : stop_why_.value_or("")});
  enter(CoordinatorState::kDraining);
}

void Coordinator::on_tick_draining() {
  if (ending_since_) {
    if (!killed_ && now_ - *ending_since_ > limits_.kill_grace_s) {
      killed_ = true;
      act(EndJob{true, "the launcher did not end the job in time"});
    }
    return;
  }
  if (now_ - state_since_ > limits_.drain_deadline_s) {
    note("failure", "the ranks did not stop within " +
                        std::to_string(std::lround(limits_.drain_deadline_s)) + " s");
    return end_job();
  }
  watch_ranks();
}

void Coordinator::on_stop_idle(const StopRequested& event) {
  finish(CoordinatorState::kPreempted, 75, event.why);
}

void Coordinator::on_stop_running(const StopRequested& event) {
  stop_why_ = event.why;
  const bool trained =
      std::any_of(ranks_.begin(), ranks_.end(), [](const RankView& r) { return r.step >= 0; });
  if (!trained) {  // nothing would be lost, and a rank that is setting up cannot listen
    note("stop", event.why + ": nothing was trained yet, ending the ranks");
    return end_job();
  }
  note("stop", event.why + ": asked every rank to write a checkpoint and stop");
  act(SendStop{-1, event.why});
  enter(CoordinatorState::kDraining);
}

void Coordinator::on_stop_again(const StopRequested& event) {
  const bool second = stop_why_.has_value();
  stop_why_ = event.why;
  if (!second || killed_) return;
  ending_since_ = now_;
  killed_ = true;
  note("stop", event.why + " again: ending at once");
  act(EndJob{true, event.why});
}

void Coordinator::on_launcher_exited(const LauncherExited& event) {
  const auto bye_is = [](int code) {
    return [code](const RankView& view) { return view.bye == code; };
  };
  const bool all_done = std::all_of(ranks_.begin(), ranks_.end(), bye_is(0));
  const bool any_stopped = std::any_of(ranks_.begin(), ranks_.end(), bye_is(75));
  const std::string where =
      last_commit_ >= 0
          ? "; the next start goes on from the checkpoint of step " + std::to_string(last_commit_)
          : "; there is no checkpoint yet";
  if (failure_ && final_exit_code(failure_->failure_class)) {
    return finish(CoordinatorState::kFailed, *final_exit_code(failure_->failure_class),
                  failure_->what);
  }
  const bool looks_done = event.exit_status == 0 && !any_stopped && !failure_;
  if (looks_done || (event.exit_status <= 0 && all_done)) {
    return finish(CoordinatorState::kSucceeded, 0, "done");
  }
  if (stop_why_) return finish(CoordinatorState::kPreempted, 75, *stop_why_ + where);
  // Ranks that are ended after a failure may still manage to stop in good order; that is no stop
  // that anyone asked for.
  if (!failure_ && (any_stopped || event.exit_status == 75)) {
    return finish(CoordinatorState::kPreempted, 75, "a rank was stopped" + where);
  }
  if (event.exit_status == 64 || event.exit_status == 93) {
    return finish(CoordinatorState::kFailed, event.exit_status,
                  "the ranks ended with exit code " + std::to_string(event.exit_status));
  }
  relaunch_or_give_up(failure_.value_or(
      Failure{"crash", "the launcher ended with status " + std::to_string(event.exit_status), -1}));
}

void Coordinator::relaunch_or_give_up(const Failure& failure) {
  launches_without_commit_ = last_commit_ > commit_at_launch_ ? 0 : launches_without_commit_ + 1;
  if (launches_without_commit_ >= limits_.launches_without_commit) {
    return finish(CoordinatorState::kFailed, 93,
                  std::to_string(launches_without_commit_) +
                      " launches in a row ended without a new checkpoint; the last one because " +
                      failure.what);
  }
  ++restarts_;
  const int doublings = std::min(launches_without_commit_, 20);
  const Seconds longest =
      std::min(limits_.backoff_cap_s, limits_.backoff_base_s * std::ldexp(1.0, doublings));
  const Seconds delay = longest * (0.5 + 0.5 * jitter_());
  next_launch_ = now_ + delay;
  char seconds[16];
  std::snprintf(seconds, sizeof(seconds), "%.1f", delay);
  note("relaunch",
       failure.what + "; launching again in " + seconds + " s from " +
           (last_commit_ >= 0 ? "the checkpoint of step " + std::to_string(last_commit_)
                              : std::string("the beginning")),
       failure.rank);
  enter(CoordinatorState::kBackoff);
}

void Coordinator::on_tick_backoff() {
  if (now_ >= next_launch_) launch();
}

void Coordinator::finish(CoordinatorState state, int exit_code, const std::string& why) {
  enter(state);
  act(FinishRun{exit_code, why});
}

}  // namespace espalier
