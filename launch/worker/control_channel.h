#pragma once

#include <string>

#include "launch/worker/channel_connection.h"
#include "launch/worker/mailbox.h"
#include "trainer/run_observer.h"

namespace espalier {

// A rank's end of the control channel, on a thread that touches neither MPI nor torch, so that it
// beats whatever the training thread does. While the coordinator is away training goes on.
class ControlChannel : public RunObserver {
 public:
  using Options = ChannelConnection::Options;
  explicit ControlChannel(const Options& options);

  void on_phase(Phase phase) override;
  void on_work(const WorkReport& report) override;
  void on_step(const StepReport& report) override;
  bool stop_requested() override;
  bool is_cut_off() override;
  // Blocks until every rank is prepared; false when this generation is over. With the coordinator
  // gone for good the journal in the run directory decides (see Note [Who may commit without a
  // coordinator]).
  bool approve_commit(int64_t global_step) override;
  void on_committed(int64_t global_step) override;
  void on_checkpoint_failed(int64_t global_step, const std::string& why) override;

  // How long training goes on without a coordinator, once the config has said it.
  void set_grace(double seconds) { connection_.set_grace(seconds); }
  void report_error(FailureClass failure_class, const std::string& what);
  // Sends BYE and waits a moment for it to leave. The last call.
  void finish(int exit_code);

 private:
  template <class Message>
  void send(const Message& message) {
    mailbox_.post(message);
    connection_.wake();
  }

  const bool is_first_;
  Mailbox mailbox_;
  ChannelConnection connection_;
};

}  // namespace espalier
