#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <c10/core/Device.h>
#include <c10/core/Event.h>

#include "trainer/phase.h"
#include "trainer/run_observer.h"

namespace espalier {

// Adds up the time spent in each phase of a step, and tells the observer which phase this is. What
// happens between leave() and enter() is not counted: evaluation, waiting for a checkpoint.
//
// On a GPU it is the GPU's time: the host is ahead of it, and its own clock would charge all work
// to whichever phase waits. A mark in the GPU's queue begins each phase; settle() reads them.
class PhaseClock {
 public:
  explicit PhaseClock(RunObserver& observer, c10::Device device = c10::Device(c10::kCPU));

  // Ends the phase before.
  void enter(Phase phase);
  void leave();
  void count_step() { ++steps_; }

  // Takes in what a GPU has done. To be called when the host has waited for it anyway: until then
  // the times below know nothing of it. On the CPU it does nothing.
  void settle();

  // Seconds per step, by phase and in all, since the last reset.
  std::map<std::string, double> per_step() const;
  double step_s() const;
  void reset();

 private:
  using Clock = std::chrono::steady_clock;
  struct Mark {
    std::optional<Phase> phase;  // that begins; none: until the next mark nothing is counted
    c10::Event event;
  };

  void mark(std::optional<Phase> phase);
  void add(Phase phase, double seconds) { seconds_[std::string(name_of(phase))] += seconds; }

  RunObserver& observer_;
  c10::Device device_;
  std::optional<Phase> phase_;
  Clock::time_point since_ = Clock::now();
  std::vector<Mark> marks_;  // of a GPU, since the last settle()
  std::map<std::string, double> seconds_;
  int64_t steps_ = 0;
};

}  // namespace espalier
