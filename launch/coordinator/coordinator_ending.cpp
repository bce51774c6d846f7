#include <algorithm>
#include <cmath>
#include <cstdio>

#include "launch/coordinator/coordinator.h"

namespace espalier {
namespace {

Seconds backoff(const DeadlineConfig& deadlines, int64_t launches_without_commit) {
  const int doublings = static_cast<int>(std::min<int64_t>(launches_without_commit, 20));
  return std::min(deadlines.backoff_cap, deadlines.backoff_base * std::ldexp(1.0, doublings));
}

std::string seconds_text(Seconds seconds) { return std::to_string(std::lround(seconds)) + " s"; }

}  // namespace

// The launcher usually ends the job within two seconds of a rank's death; if not, it is helped.
void Coordinator::watch_ranks() {
  const RankWatch::Findings findings = watch_.check(now_, state_since_);
  if (failure_ && now_ - failure_at_ > deadlines_.lost_rank_grace) return end_job();
  for (const auto& suspect : findings.newly_suspect) note("suspect", suspect.what, suspect.rank);
  if (findings.lost) {
    fail({FailureClass::kCrash, findings.lost->what, findings.lost->rank});
  }
  if (!findings.hang) return;
  fail({FailureClass::kHang, findings.hang->what, findings.hang->rank});
  end_job();
}

void Coordinator::on_job_ends(const JobEnds& event) {
  const bool is_news = !time_limit_.end() || std::abs(*time_limit_.end() - event.at) > 1;
  time_limit_.set(event);
  if (!is_news) return;
  note("time_limit", "the scheduler ends this job in " + seconds_text(event.at - now_) +
                         "; every rank will be asked for a checkpoint about " +
                         seconds_text(time_limit_.margin()) + " before");
}

std::optional<StopRequested> Coordinator::time_is_up() const {
  if (stop_why_ || !time_limit_.is_due(now_)) return std::nullopt;
  return StopRequested{"the time limit in " + seconds_text(*time_limit_.end() - now_),
                       StopSource::kWarning};
}

void Coordinator::on_tick_running() {
  if (const auto stop = time_is_up()) return on_stop_running(*stop);
  watch_ranks();
  if (!ending_since_) look_for_missing_hosts();
}

void Coordinator::end_job() {
  if (ending_since_) return;
  ending_since_ = now_;
  // A launcher that is asked to end waits for every host, and for ever for one that is no more.
  const RankView* culprit = failure_ ? watch_.find(failure_->rank) : nullptr;
  killed_ = culprit != nullptr && !culprit->is_local;
  act(EndJob{killed_, failure_ ? failure_->what : stop_why_.value_or("")});
  enter(CoordinatorState::kDraining);
}

void Coordinator::on_tick_draining() {
  if (ending_since_) {
    if (!killed_ && now_ - *ending_since_ > deadlines_.kill_grace) {
      killed_ = true;
      act(EndJob{true, "the launcher did not end the job in time"});
    }
    return;
  }
  if (now_ - state_since_ > deadlines_.drain) {
    note("failure",
         "the ranks did not stop within " + std::to_string(std::lround(deadlines_.drain)) + " s");
    return end_job();
  }
  watch_ranks();
}

void Coordinator::on_stop_idle(const StopRequested& event) {
  stopped_by_person_ = event.source == StopSource::kPerson;
  finish(CoordinatorState::kPreempted, kExitStopped, event.why);
}

void Coordinator::on_stop_running(const StopRequested& event) {
  stop_why_ = event.why;
  stopped_by_person_ = event.source == StopSource::kPerson;
  if (!watch_
           .any_trained()) {  // nothing would be lost, and a rank that is setting up cannot listen
    note("stop", event.why + ": nothing was trained yet, ending the ranks");
    return end_job();
  }
  note("stop", event.why + ": asked every rank to write a checkpoint and stop");
  act(SendStop{-1, event.why});
  enter(CoordinatorState::kDraining);
}

void Coordinator::on_stop_again(const StopRequested& event) {
  const bool second = stop_why_.has_value();
  if (second && event.source == StopSource::kWarning) return;
  stop_why_ = event.why;
  stopped_by_person_ = stopped_by_person_ || event.source == StopSource::kPerson;
  if (!second || killed_) return;
  ending_since_ = now_;
  killed_ = true;
  note("stop", event.why + " again: ending at once");
  act(EndJob{true, event.why});
}

void Coordinator::on_launcher_exited(const LauncherExited& event) {
  if (finish_if_over(event)) return;
  if (growing_ && !failure_) return allocate();
  if (!failure_) {
    const std::string ended = "the launcher ended with status " + std::to_string(event.exit_status);
    const auto first = watch_.first_to_hang_up();
    if (first) {
      fail({FailureClass::kCrash, first->what + ", and " + ended, first->rank});
    } else {
      failure_ = Failure{FailureClass::kCrash, ended, -1};
    }
  }
  relaunch_or_give_up(*failure_);
}

// Whether the end of this launch is the end of the run.
bool Coordinator::finish_if_over(const LauncherExited& event) {
  const auto said = [](int code) {
    return [code](const RankView& view) { return view.bye == code; };
  };
  const bool all_done = std::all_of(ranks().begin(), ranks().end(), said(kExitDone));
  const bool any_stopped = std::any_of(ranks().begin(), ranks().end(), said(kExitStopped));
  const std::string where = "; " + next_start();
  if (failure_ && !is_relaunch_of_use(failure_->failure_class)) {
    finish(CoordinatorState::kFailed, exit_code_of(failure_->failure_class), failure_->what);
    return true;
  }
  const bool looks_done = event.exit_status == kExitDone && !any_stopped && !failure_;
  if (looks_done || (event.exit_status <= kExitDone && all_done)) {
    finish(CoordinatorState::kSucceeded, kExitDone, "done");
    return true;
  }
  if (stop_why_) {
    finish(CoordinatorState::kPreempted, kExitStopped, *stop_why_ + where);
    return true;
  }
  // Ranks that are ended after a failure may still manage to stop in good order; that is no stop
  // that anyone asked for.
  if (growing_ && !failure_) return false;
  if (!failure_ && (any_stopped || event.exit_status == kExitStopped)) {
    finish(CoordinatorState::kPreempted, kExitStopped, "a rank was stopped" + where);
    return true;
  }
  if (!is_relaunch_of_use_after(event.exit_status)) {
    finish(CoordinatorState::kFailed, event.exit_status,
           "the ranks ended with exit code " + std::to_string(event.exit_status));
    return true;
  }
  return false;
}

std::string Coordinator::next_start() const {
  return last_commit_ < 0
             ? "there is no checkpoint yet"
             : "the next start goes on from the checkpoint of step " + std::to_string(last_commit_);
}

void Coordinator::relaunch_or_give_up(const Failure& failure) {
  launches_without_commit_ = last_commit_ > commit_at_launch_ ? 0 : launches_without_commit_ + 1;
  if (launches_without_commit_ >= deadlines_.launches_without_commit) {
    return finish(CoordinatorState::kFailed, kExitDoNotRequeue,
                  std::to_string(launches_without_commit_) +
                      " launches in a row ended without a new checkpoint; the last one because " +
                      failure.what);
  }
  ++restarts_;
  const Seconds delay = backoff(deadlines_, launches_without_commit_) * (0.5 + 0.5 * jitter_());
  next_launch_ = now_ + delay;
  char seconds[32];
  std::snprintf(seconds, sizeof(seconds), "%.1f", delay);
  note("relaunch",
       failure.what + "; launching again in " + seconds + " s from " +
           (last_commit_ >= 0 ? "the checkpoint of step " + std::to_string(last_commit_)
                              : std::string("the beginning")),
       failure.rank);
  enter(CoordinatorState::kBackoff);
}

void Coordinator::on_tick_backoff() {
  if (const auto stop = time_is_up()) return on_stop_idle(*stop);
  if (now_ >= next_launch_) allocate();
}

void Coordinator::finish(CoordinatorState state, int exit_code, const std::string& why) {
  enter(state);
  act(FinishRun{exit_code, why, state == CoordinatorState::kPreempted && !stopped_by_person_});
}

}  // namespace espalier
