#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/reduction/gradient_reducer.h"
#include "data/order/prefetcher.h"
#include "trainer/checkpoint/checkpointer.h"
#include "trainer/config/run_config.h"
#include "trainer/run_observer.h"
#include "trainer/stage.h"
#include "trainer/update/optimizer.h"
#include "trainer/update/phase_clock.h"
#include "trainer/update/weight_average.h"

namespace espalier {

struct StepLoopOptions {
  const RunConfig& config;
  const StageConfig& stage;
  at::Device device;
  int64_t global_step_before = 0;  // steps of all earlier stages
  int64_t total_steps = 0;         // of all stages
  // Every log.every_steps steps, on every rank; times are means since the call before.
  std::function<void(const StepReport&)> on_line = {};
};

// The steps of one stage: the story of a training step is step(). Knows ranks and optimizers; what
// is computed from a batch is the stage's business.
//
// Note [One small all-reduce per step]: before the forward pass the ranks add up, in one vector of
// doubles, what they must agree on: valid targets per loss, which groups anyone runs, whether
// anyone wants to stop, whether a checkpoint is still being written, and the loss sums of the step
// before. So a loss is reported one step late (flush_report() brings the last one), and stopping
// needs no message of its own.
class StepLoop {
 public:
  StepLoop(Stage& stage, Communicator& comm, RunObserver& observer, Checkpointer& checkpointer,
           StepLoopOptions options);
  ~StepLoop();

  // Optimizer moments and averaged weights, aliasing live storage: beside Stage::state(), what a
  // checkpoint needs to go on from here.
  TensorMap state() const;

  // Where to go on after state() was loaded.
  void set_position(int64_t steps_done, int64_t bad_steps);

  // Trains one step. False: the ranks agreed to stop, and nothing was changed. Throws
  // DoNotRequeueError when gradients were not finite too many times in a row.
  bool step();

  // Collective. Reports the last step now. Call before a checkpoint, an evaluation and the end.
  void flush_report();

  int64_t steps_done() const { return steps_done_; }
  int64_t bad_steps() const { return bad_steps_; }  // in a row, up to now
  WeightAverage& average() { return *average_; }

 private:
  using StepBatches = std::vector<std::unique_ptr<MicroBatch>>;
  struct Agreement {
    std::vector<double> counts;
    std::vector<bool> active;
    bool stop = false;
  };

  StepBatches load_step(int64_t step);
  Agreement agree(const StepBatches& batches);
  void forward_backward(const StepBatches& batches, const Agreement& agreement);
  at::Tensor weighted_total(const std::vector<at::Tensor>& losses,
                            const std::vector<double>& counts);
  bool apply_gradients(const Agreement& agreement);
  void publish(const std::vector<double>& sums);

  Stage& stage_;
  Communicator& comm_;
  RunObserver& observer_;
  Checkpointer& checkpointer_;
  StepLoopOptions options_;
  std::vector<ParameterGroup> groups_;
  std::vector<std::string> loss_names_;
  std::vector<double> loss_weights_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<WeightAverage> average_;
  std::unique_ptr<GradientReducer> reducer_;
  std::unique_ptr<Prefetcher<StepBatches>> prefetcher_;
  PhaseClock clock_;
  int64_t steps_done_ = 0;
  int64_t bad_steps_ = 0;
  int64_t first_bad_step_ = 0;
  std::vector<at::Tensor> sums_;          // of this rank, of the step under way or just done
  std::vector<double> counts_;            // of the whole world
  std::optional<StepReport> unreported_;  // the last step, without its losses
};

// Names of the parameters, in the order of the groups, as they are called in `state`.
std::vector<std::string> parameter_names(const std::vector<ParameterGroup>& groups,
                                         const TensorMap& state);

}  // namespace espalier
