#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "trainer/run_observer.h"

namespace espalier {

struct ControlChannelOptions {
  std::string address_file;  // RUN/coordinator.json
  uint32_t generation = 1;
  int rank = 0;
  // A coordinator that is away this long is gone for good: checkpoint and stop.
  double grace_s = 120;
};

// A rank's end of the control channel, on a thread that touches neither MPI nor torch, so that it
// beats whatever the training thread does. When the coordinator is away it reconnects with a
// jittered back-off, reading the address anew, and training goes on.
class ControlChannel : public RunObserver {
 public:
  explicit ControlChannel(const ControlChannelOptions& options);
  ~ControlChannel() override;
  ControlChannel(const ControlChannel&) = delete;
  ControlChannel& operator=(const ControlChannel&) = delete;

  void on_phase(std::string_view phase) override;
  void on_work(const WorkReport& report) override;
  void on_step(const StepReport& report) override;
  bool stop_requested() override;
  // Blocks until every rank is prepared; false when this generation is over. With the coordinator
  // gone for good nobody can launch a newer generation unseen, and the answer is yes.
  bool approve_commit(int64_t global_step) override;
  void on_committed(int64_t global_step) override;

  void report_error(const std::string& failure_class, const std::string& what);
  // Sends BYE and waits a moment for it to leave. The last call.
  void finish(int exit_code);

 private:
  class Connection;
  std::unique_ptr<Connection> connection_;
};

}  // namespace espalier
