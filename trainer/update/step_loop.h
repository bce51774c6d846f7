#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/reduction/gradient_reducer.h"
#include "data/order/prefetcher.h"
#include "trainer/checkpoint/checkpointer.h"
#include "trainer/config/run_config.h"
#include "trainer/interference/interference_meter.h"
#include "trainer/run_observer.h"
#include "trainer/stage.h"
#include "trainer/update/agreement.h"
#include "trainer/update/loss_meter.h"
#include "trainer/update/optimizer.h"
#include "trainer/update/phase_clock.h"
#include "trainer/update/step_measures.h"
#include "trainer/update/weight_average.h"
#include "trainer/update/work_meter.h"

namespace espalier {

class RunLog;

struct StepLoopOptions {
  const RunConfig& config;
  at::Device device;
  // Between the same ranks and of host memory, for what they agree on before every step: over a
  // GPU's own the host would wait for the GPU. Null = the stage's communicator.
  Communicator* control = nullptr;
  int64_t global_step_before = 0;  // steps of all earlier stages
  int64_t total_steps = 0;         // of all stages
  // Rank 0's, or null. Gets a line every log.every_steps steps, whose losses and times are means
  // since the line before, and every measure of interference.
  RunLog* log = nullptr;
};

// The steps of one stage: the story of a training step is step(). Knows ranks and optimizers; what
// is computed from a batch is the business of the stage's objectives.
//
// Note [One small all-reduce per step]: before the forward pass the ranks add up what they must
// agree on (update/agreement.h). The loss sums of a step travel with the next one's targets, so a
// loss is reported one step late (flush_report() brings the last one), and stopping needs no
// message of its own.
//
// Note [The host does not wait for a GPU]: a GPU works through a queue, and whoever reads one of
// its values waits until the queue is empty, and then the GPU until it is filled again. So a step
// reads nothing: batches go up in one copy from pinned memory, losses are summed, the norm is taken
// and compared, gradients are clipped and steps that are not finite are left out on the GPU itself
// (applies_). What was measured is read with every line of the log, and often enough that too many
// steps that are not finite end the run. On the CPU reading costs nothing, and every step does.
class StepLoop {
 public:
  StepLoop(Stage& stage, Communicator& comm, RunObserver& observer, Checkpointer& checkpointer,
           StepLoopOptions options);
  ~StepLoop();

  // Optimizer moments and averaged weights, aliasing live storage: beside Stage::state(), what a
  // checkpoint needs to go on from here.
  TensorMap state() const;

  // Where to go on after state() was loaded. `losses`: what loss_meter().state() had been.
  void set_position(int64_t steps_done, int64_t bad_steps, const nlohmann::json& losses = {});

  // Trains one step. False: the ranks agreed to stop, and nothing was changed. Throws
  // NumericError when gradients were not finite too many times in a row (on a GPU when that is
  // read: nothing has changed since).
  bool step();

  // Collective. Reports the last step now. Call before a checkpoint, an evaluation and the end.
  // Throws as step() does.
  void flush_report();

  int64_t steps_done() const { return steps_done_; }
  int64_t bad_steps() const { return bad_steps_; }  // in a row, up to now
  // As the ranks agreed before the last step: the coordinator of one of them is away.
  bool is_cut_off() const { return is_cut_off_; }
  WeightAverage& average() { return *average_; }
  const LossMeter& loss_meter() const { return meter_; }

 private:
  using StepBatches = std::vector<SlotBatch>;

  StepBatches load_step(int64_t step);
  Agreement agree_on(const StepBatches& batches);
  void forward_backward(StepBatches& batches);
  void train_slot(SlotBatch& batch, bool is_last);
  std::vector<at::Tensor> weighted_terms(const std::vector<at::Tensor>& sums);
  void end_measure();
  bool apply_gradients();
  void apply_unread();
  bool reads_every_step() const { return options_.device.is_cpu(); }
  bool is_line(int64_t step) const;
  bool is_reading_due() const;
  void read_measures(Agreement& mine);
  void note_bad_steps(int64_t in_a_row);
  [[noreturn]] void give_up();
  void publish(const std::optional<Agreement>& read);
  void note_measures(const Agreement& read);

  Stage& stage_;
  Communicator& comm_;
  Communicator& control_;
  RunObserver& observer_;
  Checkpointer& checkpointer_;
  StepLoopOptions options_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<WeightAverage> average_;
  std::unique_ptr<GradientReducer> reducer_;
  InterferenceMeter interference_;
  std::unique_ptr<Prefetcher<StepBatches>> prefetcher_;
  PhaseClock clock_;
  LossMeter meter_;
  WorkMeter work_;
  std::optional<double> peak_flops_;      // of one rank
  std::optional<StepMeasures> measures_;  // of a GPU, since they were read
  at::Tensor applies_;                    // of a GPU: whether the step under way changes anything
  int64_t steps_done_ = 0;
  int64_t bad_steps_ = 0;
  int64_t first_bad_step_ = 0;
  bool is_cut_off_ = false;
  std::vector<bool> active_;            // groups that the step under way reaches, on any rank
  std::vector<at::Tensor> sums_;        // of this rank, of the step under way or just done
  std::vector<double> targets_;         // of the whole world
  std::vector<double> unread_targets_;  // of all steps whose losses were not read
  int64_t unread_steps_ = 0;
  // Of the steps that were read last.
  double last_norm_ = 0;
  double step_s_ = 0;
  StepReport known_;                      // what they had: losses, speed, memory
  std::optional<StepReport> unreported_;  // the last step, without its losses
};

}  // namespace espalier
