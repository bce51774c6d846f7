#include "launch/coordinator/rank_watch.h"

#include <algorithm>
#include <cmath>

#include "launch/coordinator/stalled_exchange.h"

namespace espalier {
namespace {

constexpr size_t kStepTimesKept = 100;
// check() comes several times a second; a longer gap is an absence of the coordinator itself.
constexpr Seconds kOwnAbsence = 2;

std::string rounded(Seconds seconds) { return std::to_string(std::lround(seconds)) + " s"; }

std::string place_of(const RankView& view) {
  return "phase " + std::string(name_of(view.phase)) + ", step " + std::to_string(view.step);
}

bool is_watched(const RankView& view) { return view.joined && !view.bye; }

}  // namespace

std::string rank_text(int rank, const RankView& view) {
  return "rank " + std::to_string(rank) + " (pid " + std::to_string(view.pid) +
         (view.is_local ? "" : " on host " + view.host) + ")";
}

RankWatch::RankWatch(const DeadlineConfig& deadlines) : deadlines_(deadlines) {}

void RankWatch::start(int world_size, Seconds now) {
  ranks_.assign(static_cast<size_t>(world_size), RankView{});
  step_times_.clear();
  last_check_ = now;
}

RankView* RankWatch::find(int rank) {
  if (rank < 0 || rank >= static_cast<int>(ranks_.size())) return nullptr;
  return &ranks_[static_cast<size_t>(rank)];
}

bool RankWatch::all_joined() const {
  return std::all_of(ranks_.begin(), ranks_.end(), [](const RankView& r) { return r.joined; });
}

bool RankWatch::any_trained() const {
  return std::any_of(ranks_.begin(), ranks_.end(), [](const RankView& r) { return r.step >= 0; });
}

void RankWatch::join(const RankJoined& event, Seconds now) {
  RankView& view = ranks_.at(static_cast<size_t>(event.rank));
  if (!view.joined) view.last_progress = view.last_step_change = now;
  view.joined = true;
  view.pid = event.pid;
  view.host = event.host;
  view.is_local = event.is_local;
  view.suspect = false;
  view.hung_up_at.reset();
  view.last_beat = now;
}

void RankWatch::hang_up(int rank, Seconds now) {
  ranks_.at(static_cast<size_t>(rank)).hung_up_at = now;
}

void RankWatch::beat(const RankBeat& event, Seconds now) {
  RankView& view = ranks_.at(static_cast<size_t>(event.rank));
  view.last_beat = now;
  view.suspect = false;
  if (event.exchange) view.exchange = event.exchange;
  const bool is_progress =
      event.step != view.step || event.phase != view.phase || event.work_done != view.work_done;
  if (!is_progress) return;
  view.last_progress = now;
  if (event.step != view.step) {
    if (view.step >= 0 && event.step > view.step) {
      step_times_.push_back((now - view.last_step_change) /
                            static_cast<double>(event.step - view.step));
      if (step_times_.size() > kStepTimesKept) step_times_.pop_front();
    }
    view.last_step_change = now;
  }
  view.step = event.step;
  view.phase = event.phase;
  view.work_done = event.work_done;
}

Seconds RankWatch::step_deadline() const {
  const auto slowest = std::max_element(step_times_.begin(), step_times_.end());
  return slowest == step_times_.end()
             ? deadlines_.step_floor
             : std::max(deadlines_.step_floor, deadlines_.step_factor * *slowest);
}

Seconds RankWatch::deadline(Phase phase) const {
  switch (deadline_of(phase)) {
    case PhaseDeadline::kSetup:
      return deadlines_.setup;
    case PhaseDeadline::kStep:
      return step_deadline();
    case PhaseDeadline::kCheckpoint:
      return deadlines_.checkpoint;
    case PhaseDeadline::kEvaluation:
      return deadlines_.evaluation;
  }
  return step_deadline();
}

RankWatch::Findings RankWatch::check(Seconds now, Seconds launched_at) {
  forgive_own_absence(now);
  Findings findings;
  findings.lost = find_lost(now);
  findings.hang = find_silent(now);
  findings.newly_suspect = find_newly_suspect(now);
  if (!findings.hang) findings.hang = find_stalled(now);
  if (!findings.hang) findings.hang = find_missing(now - launched_at);
  return findings;
}

// A coordinator that was suspended, or got no processor, has beats waiting unread; they are not
// late.
void RankWatch::forgive_own_absence(Seconds now) {
  const Seconds absence = now - last_check_;
  last_check_ = now;
  if (absence < kOwnAbsence) return;
  for (RankView& view : ranks_) {
    view.last_beat = std::min(now, view.last_beat + absence);
    view.last_progress = std::min(now, view.last_progress + absence);
    if (view.hung_up_at) view.hung_up_at = std::min(now, *view.hung_up_at + absence);
  }
}

// Of a rank on another machine nobody here can see whether it lives. One that does comes back
// within a second.
std::optional<RankWatch::Trouble> RankWatch::find_lost(Seconds now) const {
  for (size_t i = 0; i < ranks_.size(); ++i) {
    const RankView& view = ranks_[i];
    if (!is_watched(view) || view.is_local || !view.hung_up_at) continue;
    if (now - *view.hung_up_at <= deadlines_.hung_up) continue;
    const auto of_host = [&view](const RankView& other) {
      return is_watched(other) && other.host == view.host;
    };
    const auto all = std::count_if(ranks_.begin(), ranks_.end(), of_host);
    const auto gone = std::count_if(ranks_.begin(), ranks_.end(), [&](const RankView& other) {
      return of_host(other) && other.hung_up_at;
    });
    const int rank = static_cast<int>(i);
    std::string what = rank_text(rank, view) + " hung up and did not come back";
    if (gone == all && all > 1) {
      what += ", and so did all " + std::to_string(all) + " ranks of host " + view.host;
    }
    return Trouble{rank, what};
  }
  return std::nullopt;
}

std::optional<RankWatch::Trouble> RankWatch::first_to_hang_up() const {
  const RankView* first = nullptr;
  for (const RankView& view : ranks_) {
    if (!is_watched(view) || !view.hung_up_at) continue;
    if (first == nullptr || *view.hung_up_at < *first->hung_up_at) first = &view;
  }
  if (first == nullptr) return std::nullopt;
  const int rank = static_cast<int>(first - ranks_.data());
  return Trouble{rank, rank_text(rank, *first) + " hung up"};
}

std::optional<RankWatch::Trouble> RankWatch::find_silent(Seconds now) const {
  for (size_t i = 0; i < ranks_.size(); ++i) {
    const RankView& view = ranks_[i];
    const Seconds silence = now - view.last_beat;
    if (!is_watched(view) || silence <= deadlines_.dead_after) continue;
    const int rank = static_cast<int>(i);
    return Trouble{rank, rank_text(rank, view) + " has been silent for " + rounded(silence) + " (" +
                             place_of(view) + ")"};
  }
  return std::nullopt;
}

std::vector<RankWatch::Trouble> RankWatch::find_newly_suspect(Seconds now) {
  std::vector<Trouble> found;
  for (size_t i = 0; i < ranks_.size(); ++i) {
    RankView& view = ranks_[i];
    const Seconds silence = now - view.last_beat;
    if (!is_watched(view) || view.suspect || silence <= deadlines_.suspect_after) continue;
    view.suspect = true;
    const int rank = static_cast<int>(i);
    found.push_back(
        {rank, rank_text(rank, view) + " has not been heard of for " + rounded(silence)});
  }
  return found;
}

// When one rank stops, all the others soon wait for it, in phases with shorter deadlines than its
// own perhaps: rank 1 agrees on the next step while rank 0 still writes pictures. So only the rank
// without progress for longest is judged, and by its own phase.
std::optional<RankWatch::Trouble> RankWatch::find_stalled(Seconds now) const {
  const RankView* longest = nullptr;
  for (const RankView& view : ranks_) {
    if (!is_watched(view)) continue;
    if (longest == nullptr || view.last_progress < longest->last_progress) longest = &view;
  }
  if (longest == nullptr || now - longest->last_progress <= deadline(longest->phase)) {
    return std::nullopt;
  }
  const int rank = static_cast<int>(longest - ranks_.data());
  const std::string exchange = describe_stalled_exchange(ranks_);
  return Trouble{rank, rank_text(rank, *longest) + " made no progress for " +
                           rounded(now - longest->last_progress) + " in " + place_of(*longest) +
                           (exchange.empty() ? "" : "; " + exchange)};
}

std::optional<RankWatch::Trouble> RankWatch::find_missing(Seconds waited) const {
  if (waited <= deadlines_.setup) return std::nullopt;
  std::string missing;
  for (size_t rank = 0; rank < ranks_.size(); ++rank) {
    if (ranks_[rank].joined || ranks_[rank].bye) continue;
    missing += (missing.empty() ? "" : ", ") + std::to_string(rank);
  }
  if (missing.empty()) return std::nullopt;
  return Trouble{-1, "rank " + missing + " never joined"};
}

}  // namespace espalier
