#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "trainer/phase.h"
#include "trainer/record/step_report.h"

namespace espalier {

// How far a long task outside of the steps is: teacher features, image codes.
struct WorkReport {
  std::string_view what;  // lives as long as the program
  int64_t done = 0;       // of all ranks, judged by the pace of this one
  int64_t total = 0;
};
using WorkListener = std::function<void(const WorkReport&)>;

// What a run tells its surroundings, and the three things it asks them. The default does nothing,
// for a run without a coordinator. Calls come from the training thread, except where said.
class RunObserver {
 public:
  virtual ~RunObserver() = default;

  // Several times a step; must return at once.
  virtual void on_phase(Phase /*phase*/) {}

  // Every second or so during such a task, on every rank; must return at once.
  virtual void on_work(const WorkReport& /*report*/) {}

  // Once per step on every rank, one step late: a step's losses travel with the next one's counts.
  virtual void on_step(const StepReport& /*report*/) {}

  // Asked once per step. True on one rank stops all ranks before the same step.
  virtual bool stop_requested() { return false; }

  // This rank's file of the checkpoint is on disk. Called on a writer thread; may block. False on
  // any rank abandons the checkpoint. On rank 0, true is the permission to commit.
  virtual bool approve_commit(int64_t /*global_step*/) { return true; }

  // The checkpoint is committed; on every rank, on rank 0 on the writer thread.
  virtual void on_committed(int64_t /*global_step*/) {}

  // It is not, and training goes on; on every rank.
  virtual void on_checkpoint_failed(int64_t /*global_step*/, const std::string& /*why*/) {}

  // Asked once per step. True while whoever approves commits is away, and may come back.
  virtual bool is_cut_off() { return false; }
};

}  // namespace espalier
