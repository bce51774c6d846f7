#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "trainer/update/step_plan.h"

namespace espalier {

// The steps of one measure, and what they hold.
struct MeasureWindow {
  int64_t first = 0;  // steps of the stage that were done before it
  int64_t steps = 0;
  // By objective: its micro-batches in each half of what is measured of it.
  std::vector<std::array<int64_t, 2>> turns;

  int64_t end() const { return first + steps; }
};

// The micro-batches of an objective fall into the halves by turns, whatever steps and ranks they
// are in.
inline size_t half_of(const Turn& turn) { return static_cast<size_t>(turn.earlier % 2); }

// As few steps from `first` on as every one of the `measured` objectives needs to have a
// micro-batch in both halves; at most kMostSteps, since weights move in between, and not beyond
// `end`.
inline constexpr int64_t kMostSteps = 8;
MeasureWindow measure_window(const StepPlan& plan, const std::vector<bool>& measured, int64_t first,
                             int64_t end);

// The first step, from `step` on, that a measure begins with so that it ends with step
// `every_steps`, or a multiple of it, where it has one step.
int64_t first_measure(int64_t step, int64_t every_steps);

// The first step of the measure after one that began at `first`, ended before `end` and took
// `cost_s`: so much later that it takes at most the share `budget` of the time between them, at
// `step_s` a step (0 = not known: as if it cost nothing).
int64_t next_measure(int64_t first, int64_t end, int64_t every_steps, double cost_s, double step_s,
                     double budget);

}  // namespace espalier
