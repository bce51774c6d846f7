#include "launch/worker/worker_observer.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <utility>

#include "launch/protocol/failure_class.h"

namespace espalier {
namespace {

std::atomic<int> signals_received = 0;
static_assert(std::atomic<int>::is_always_lock_free, "used in a signal handler");

void on_signal(int) {
  if (++signals_received > 1) ::_exit(kExitStopped);
}

}  // namespace

WorkerObserver::WorkerObserver(std::unique_ptr<ControlChannel> channel,
                               std::unique_ptr<Progress> progress)
    : channel_(std::move(channel)), progress_(std::move(progress)) {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (const int number : {SIGTERM, SIGINT, SIGUSR1}) ::sigaction(number, &action, nullptr);
}

void WorkerObserver::on_phase(Phase phase) {
  if (channel_) channel_->on_phase(phase);
  if (progress_) progress_->phase(phase);
}

void WorkerObserver::on_work(const WorkReport& report) {
  if (channel_) channel_->on_work(report);
  if (progress_) progress_->work(report);
}

void WorkerObserver::on_step(const StepReport& report) {
  if (channel_) channel_->on_step(report);
  if (progress_) progress_->step(report);
}

bool WorkerObserver::stop_requested() {
  return signals_received > 0 || (channel_ && channel_->stop_requested());
}

bool WorkerObserver::is_cut_off() { return channel_ && channel_->is_cut_off(); }

bool WorkerObserver::approve_commit(int64_t global_step) {
  return !channel_ || channel_->approve_commit(global_step);
}

void WorkerObserver::on_committed(int64_t global_step) {
  if (channel_) channel_->on_committed(global_step);
}

void WorkerObserver::on_checkpoint_failed(int64_t global_step, const std::string& why) {
  if (channel_) channel_->on_checkpoint_failed(global_step, why);
}

}  // namespace espalier
