#include "launch/coordinator/run_status.h"

#include <unistd.h>

#include <cstdio>

namespace espalier {
namespace {

using nlohmann::json;

constexpr size_t kEventsShown = 40;
constexpr size_t kLossesShown = 400;

json ranks_json(const Coordinator& machine, Seconds now) {
  json ranks = json::array();
  for (size_t i = 0; i < machine.ranks().size(); ++i) {
    const RankView& view = machine.ranks()[i];
    ranks.push_back({{"rank", i},
                     {"pid", view.pid},
                     {"host", view.host},
                     {"joined", view.joined},
                     {"suspect", view.suspect},
                     {"step", view.step},
                     {"phase", name_of(view.phase)},
                     {"waits_for", view.exchange ? view.exchange->waits_for : ""},
                     {"operations", view.exchange ? view.exchange->issued : 0},
                     {"beat_age_s", view.joined ? now - view.last_beat : -1},
                     {"progress_age_s", view.joined ? now - view.last_progress : -1}});
  }
  return ranks;
}

}  // namespace

RunStatus::RunStatus(std::string run_directory)
    : run_directory_(std::move(run_directory)), progress_(stdout) {}

void RunStatus::event(json entry) {
  events_.push_back(std::move(entry));
  if (events_.size() > kEventsShown) events_.erase(events_.begin());
}

void RunStatus::beat(const BeatMessage& message) {
  progress_.phase(message.phase);
  if (!message.work || message.work->what.empty()) return;
  progress_.work({message.work->what, message.work->done, message.work->total});
}

void RunStatus::metrics(const MetricsMessage& message) {
  report_ = message.report;
  progress_.step(*report_);
  losses_.push_back({report_->global_step, report_->total_loss});
  if (losses_.size() <= kLossesShown) return;
  std::vector<std::pair<int64_t, double>> kept;  // every second one: the whole run stays in view
  for (size_t i = 0; i < losses_.size(); i += 2) kept.push_back(losses_[i]);
  losses_ = std::move(kept);
}

json RunStatus::to_json(const Coordinator& machine, Seconds now, int64_t refused_peers) const {
  return {{"run", run_directory_},
          {"pid", ::getpid()},
          {"state", name_of(machine.state())},
          {"stopping", machine.stopping()},
          {"generation", machine.generation()},
          {"world_size", machine.ranks().size()},
          {"restarts", machine.restarts()},
          {"last_commit_step", machine.last_commit()},
          {"step_deadline_s", machine.step_deadline()},
          {"uptime_s", now},
          {"progress", report_ ? espalier::to_json(*report_) : json()},
          {"losses", losses_},
          {"ranks", ranks_json(machine, now)},
          {"refused_connections", refused_peers},
          {"events", events_}};
}

}  // namespace espalier
