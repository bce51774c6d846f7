#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "launch/protocol/messages.h"
#include "trainer/run_observer.h"

namespace espalier {

// What a rank has to say to its coordinator, and what the coordinator answered: the meeting place
// of the training threads and the channel's own thread. Any thread may call anything; nothing
// blocks but the two functions that say so.
class Mailbox {
 public:
  // `may_commit_alone` is asked, outside of any lock, when the coordinator is gone for good: it may
  // have launched a newer generation that this rank was cut off from.
  explicit Mailbox(
      int rank, std::function<bool()> may_commit_alone = [] { return true; })
      : rank_(rank), may_commit_alone_(std::move(may_commit_alone)) {}

  // ---- training ---------------------------------------------------------------------------------
  void set_phase(Phase phase);
  void set_work(const WorkReport& report);
  void set_step(const StepReport& report);
  template <class Message>
  void post(const Message& message) {
    const std::lock_guard lock(mutex_);
    push_back(Message::kType, message.encode());
  }
  bool stop_requested() const { return stop_; }
  bool is_cut_off() const { return !is_connected_ && !stop_; }

  void ask_to_commit(int64_t step);
  // Blocks until the coordinator allows it, or is gone for good and the rank may decide alone;
  // false when this generation is over.
  bool wait_for_permission(int64_t step);
  // Blocks until all posts have left, or the time is up.
  void wait_until_sent(std::chrono::milliseconds limit);

  // ---- the channel ------------------------------------------------------------------------------
  struct Outgoing {
    uint64_t id;
    MessageType type;
    nlohmann::json payload;
  };
  // The oldest one that was not sent; it stays until sent() is told its id, so that one that fails
  // is there for the next connection.
  std::optional<Outgoing> next();
  void sent(uint64_t id);
  // Queues a beat, and the newest numbers when there are any.
  void add_beat(std::optional<BeatMessage::Exchange> exchange = std::nullopt);

  void connected();
  void disconnected();
  void allowed(const CheckpointCommitMessage& message);
  void asked_to_stop(const StopMessage& message);
  void refused(const RefusalMessage& message);  // a newer generation took over
  void coordinator_is_gone();                   // for longer than a rank goes on without one
  bool is_refused() const { return refused_; }

 private:
  void push_back(MessageType type, nlohmann::json payload);  // with the mutex held

  const int rank_;
  const std::function<bool()> may_commit_alone_;
  std::atomic<bool> stop_ = false;
  std::atomic<bool> refused_ = false;
  std::atomic<bool> is_connected_ = false;

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<Outgoing> queue_;
  uint64_t next_id_ = 0;
  int64_t step_ = -1;
  Phase phase_ = Phase::kSetup;
  std::optional<BeatMessage::Work> work_;  // within the phase
  std::optional<MetricsMessage> metrics_;
  std::chrono::steady_clock::time_point last_metrics_{};
  std::optional<int64_t> asked_step_;  // a writer thread waits for the answer
  int64_t allowed_step_ = -1;
  bool gone_ = false;
};

}  // namespace espalier
