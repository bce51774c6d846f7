#include "launch/worker/mailbox.h"

#include <algorithm>
#include <utility>

#include <spdlog/spdlog.h>

namespace espalier {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kMetricsPeriod = std::chrono::milliseconds(500);

}  // namespace

void Mailbox::push_back(MessageType type, nlohmann::json payload) {
  queue_.push_back({next_id_++, type, std::move(payload)});
}

void Mailbox::set_phase(Phase phase) {
  const std::lock_guard lock(mutex_);
  phase_ = phase;
  work_.reset();
}

void Mailbox::set_work(const WorkReport& report) {
  const std::lock_guard lock(mutex_);
  work_ = {std::string(report.what), report.done, report.total};
}

void Mailbox::set_step(const StepReport& report) {
  const std::lock_guard lock(mutex_);
  step_ = report.global_step;
  if (rank_ != 0) return;
  const auto now = Clock::now();
  const bool is_last = report.step == report.stage_steps;
  if (now - last_metrics_ < kMetricsPeriod && !is_last) return;
  last_metrics_ = now;
  metrics_ = MetricsMessage{report};
}

void Mailbox::ask_to_commit(int64_t step) {
  const std::lock_guard lock(mutex_);
  asked_step_ = step;
  const CheckpointPreparedMessage message{step};
  push_back(message.kType, message.encode());
}

bool Mailbox::wait_for_permission(int64_t step) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return allowed_step_ >= step || refused_ || gone_; });
  asked_step_.reset();
  if (refused_) return false;
  if (allowed_step_ >= step) return true;
  lock.unlock();
  if (may_commit_alone_()) return true;
  spdlog::error(
      "the coordinator is gone, and a newer generation may be training: the checkpoint of step {} "
      "is not committed",
      step);
  return false;
}

void Mailbox::wait_until_sent(std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, limit, [&] { return queue_.empty() || refused_ || gone_; });
}

std::optional<Mailbox::Outgoing> Mailbox::next() {
  const std::lock_guard lock(mutex_);
  if (queue_.empty()) return std::nullopt;
  return queue_.front();
}

void Mailbox::sent(uint64_t id) {
  const std::lock_guard lock(mutex_);
  if (!queue_.empty() && queue_.front().id == id) queue_.pop_front();
  changed_.notify_all();
}

void Mailbox::add_beat(std::optional<BeatMessage::Exchange> exchange) {
  const std::lock_guard lock(mutex_);
  const BeatMessage beat{step_, phase_, work_, std::move(exchange)};
  push_back(beat.kType, beat.encode());
  if (!metrics_) return;
  push_back(metrics_->kType, metrics_->encode());
  metrics_.reset();
}

void Mailbox::connected() {
  is_connected_ = true;
  const std::lock_guard lock(mutex_);
  if (!asked_step_) return;
  // Asked again: the answer, or the question, may have been lost with the old connection.
  const CheckpointPreparedMessage message{*asked_step_};
  queue_.push_front({next_id_++, message.kType, message.encode()});
}

void Mailbox::disconnected() {
  is_connected_ = false;
  const std::lock_guard lock(mutex_);
  // Old beats are of no use to the next connection.
  std::erase_if(queue_, [](const Outgoing& m) { return m.type == MessageType::kBeat; });
  changed_.notify_all();
}

void Mailbox::allowed(const CheckpointCommitMessage& message) {
  const std::lock_guard lock(mutex_);
  allowed_step_ = std::max(allowed_step_, message.step);
  changed_.notify_all();
}

void Mailbox::asked_to_stop(const StopMessage& message) {
  if (!stop_.exchange(true)) spdlog::info("asked to stop: {}", message.why);
}

void Mailbox::refused(const RefusalMessage& message) {
  spdlog::error("refused by the coordinator: {}", message.why);
  const std::lock_guard lock(mutex_);
  refused_ = true;
  stop_ = true;
  changed_.notify_all();
}

void Mailbox::coordinator_is_gone() {
  const std::lock_guard lock(mutex_);
  if (!gone_) spdlog::warn("the coordinator is gone; writing a checkpoint and stopping");
  gone_ = true;
  stop_ = true;
  changed_.notify_all();
}

}  // namespace espalier
