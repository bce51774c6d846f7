#pragma once

#include <cstdint>
#include <vector>

namespace espalier {

// One objective's part in one slot of a step. A slot is a micro-batch: one forward and backward.
struct Turn {
  int64_t objective = 0;    // index in the stage
  int64_t step = 0;         // of the stage, from 0
  int64_t slot = 0;         // 0 .. slots-1, over the whole world
  int64_t slot_number = 0;  // step * slots + slot
  int64_t earlier = 0;      // turns of this objective before this one, from the first step on
  int64_t of_step = 0;      // turns of this objective before this one, in this step
  int64_t in_step = 0;      // turns of this objective in this step
  int64_t samples = 0;      // of the micro-batch, or of this pass over a part of it
  int64_t skipped = 0;      // samples of the micro-batch in passes before this one
  int64_t of_slot = 0;      // samples of the whole micro-batch

  int64_t first_sample() const { return earlier * of_slot + skipped; }  // in its endless stream
};

// Which objective trains in which slot of which step: a pure function that every rank computes
// alike, whatever their number.
//
// An objective with a share gets slots of its own; one without takes part in every slot. Slots come
// in periods of kPeriod. Each period holds every objective as often as its share says, evenly
// spread, so that steps differ by one slot at most, and how often an objective came before any slot
// is known without counting.
class StepPlan {
 public:
  static constexpr int64_t kPeriod = 120;

  // Shares are relative and not negative; 0 = in every slot. Each positive one gets at least one
  // slot of a period.
  StepPlan(const std::vector<double>& shares, int64_t slots_per_step, int64_t samples_per_slot);

  // The turns of one slot, in the order of the objectives.
  std::vector<Turn> turns(int64_t step, int64_t slot) const;

  // Slots of a step that an objective gets on average.
  double expected_slots(int64_t objective) const;

  // Slots of this step that it gets.
  int64_t slots_in(int64_t objective, int64_t step) const;
  // By objective: whether it has a turn in the step at all.
  std::vector<bool> runs_in(int64_t step) const;

  int64_t slots() const { return slots_; }

 private:
  int64_t count_before(int64_t objective, int64_t slot_number) const;
  bool takes_part(int64_t objective, int64_t slot_number) const;

  std::vector<bool> in_every_slot_;
  std::vector<int64_t> owner_;                      // objective of each slot of a period, -1 = none
  std::vector<std::vector<int64_t>> owned_before_;  // [objective][slot of the period]
  int64_t slots_, samples_;
};

}  // namespace espalier
