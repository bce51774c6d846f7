#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "trainer/config/run_config.h"
#include "trainer/interference/gradient_comparison.h"
#include "trainer/interference/gradient_sums.h"
#include "trainer/interference/interference_record.h"
#include "trainer/interference/measure_window.h"
#include "trainer/stage.h"

namespace espalier {

// Measures, while a stage trains, how the gradients of its objectives agree on the parameters that
// they share, and how far an update moves the weights. The training is bit for bit the one without
// it: gradients are caught beside it (gradient_sums.h), nothing is drawn, and no state is touched.
//
// A measure takes in as many steps as it takes to see two micro-batches of every objective
// (measure_window.h), and ends in one sum over ranks. Which steps these are every rank decides
// alike: from the plan, and from times that were summed over ranks. Training thread; every rank
// makes the same calls.
class InterferenceMeter {
 public:
  InterferenceMeter(const Stage& stage, Communicator& comm, const InterferenceConfig& config);

  // False: measures are off, or no two objectives share a parameter that is trained.
  bool is_on() const { return sums_ != nullptr; }
  // What a measure takes while gradients are caught; at the update a copy of the weights more.
  double bytes() const { return is_on() ? sums_->bytes() : 0; }

  // The step that comes; whether it is part of a measure.
  void begin_step(int64_t steps_done);
  bool measures_this_step() const { return is_measuring_; }

  // Before the backward pass of a slot: by loss of the stage what it adds to the step's loss,
  // undefined = nothing.
  void before_backward(const SlotBatch& batch, const std::vector<at::Tensor>& terms);
  void after_backward();

  // Around the update of the weights. The record of the measure that ends with this step, on every
  // rank; its global_step is the caller's. `step_s`: what a step takes, 0 = not known. Collective.
  void before_update();
  std::optional<InterferenceRecord> end_step(double step_s);

 private:
  void find_shared();
  void start_window(int64_t steps_done);
  void keep_weights();
  std::map<std::string, double> update_ratios() const;
  InterferenceRecord record();
  void share_times(InterferenceRecord& record, double step_s);

  const Stage& stage_;
  Communicator& comm_;
  const InterferenceConfig& config_;
  std::vector<bool> measured_;  // by objective: it shares parameters with another
  std::vector<SharedParameter> shared_;
  std::unique_ptr<GradientSums> sums_;
  MeasureWindow window_;
  int64_t next_ = -1;  // steps done before the next measure; -1 = not known yet
  int64_t step_ = 0;   // steps done before the one under way
  bool is_measuring_ = false;
  std::vector<bool> active_;                     // groups of the step under way
  std::vector<std::vector<at::Tensor>> before_;  // weights before the update, by group
  double cost_s_ = 0;
};

}  // namespace espalier
