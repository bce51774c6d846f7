#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace espalier {

// Which task a slot of a step trains, and which part of that task's endless stream of samples it
// takes: pure functions of the seed and the slot's number, step * slots_per_step + slot.
//
// Slots come in periods of kPeriod. Each period holds every task as often as its weight says, in
// an order of its own, so that how often a task came before any slot is known without counting.
class TaskSchedule {
 public:
  static constexpr int64_t kPeriod = 120;

  // Weights are relative and not negative; at least one is positive. Each positive one gets at
  // least one slot of a period.
  TaskSchedule(std::vector<double> weights, uint64_t seed);

  struct Turn {
    int64_t task = 0;
    int64_t earlier = 0;  // slots of this task before this one
  };
  Turn at(int64_t slot_number) const;

  const std::vector<int64_t>& slots_per_period() const { return per_period_; }

 private:
  std::vector<int64_t> order_of(int64_t period) const;

  std::vector<int64_t> per_period_;
  uint64_t seed_;
};

}  // namespace espalier
