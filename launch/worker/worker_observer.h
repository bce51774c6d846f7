#pragma once

#include <memory>

#include "launch/worker/control_channel.h"
#include "launch/worker/progress.h"

namespace espalier {

// What a training process tells its surroundings: the coordinator, when there is one, and on rank 0
// the terminal or the log. Installs handlers so that SIGTERM, SIGINT and SIGUSR1 become a stop with
// a checkpoint; a second signal ends the process at once.
class WorkerObserver : public RunObserver {
 public:
  // `channel` and `progress` may be null.
  WorkerObserver(std::unique_ptr<ControlChannel> channel, std::unique_ptr<Progress> progress);

  void on_phase(Phase phase) override;
  void on_work(const WorkReport& report) override;
  void on_step(const StepReport& report) override;
  bool stop_requested() override;
  bool is_cut_off() override;
  bool approve_commit(int64_t global_step) override;
  void on_committed(int64_t global_step) override;
  void on_checkpoint_failed(int64_t global_step, const std::string& why) override;

  ControlChannel* channel() { return channel_.get(); }

 private:
  std::unique_ptr<ControlChannel> channel_;
  std::unique_ptr<Progress> progress_;
};

}  // namespace espalier
