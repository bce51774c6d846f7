#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "trainer/phase.h"
#include "trainer/run_observer.h"

namespace espalier {

// Adds up the time spent in each phase of a step, and tells the observer which phase this is. What
// happens between leave() and enter() is not counted: evaluation, waiting for a checkpoint.
class PhaseClock {
 public:
  explicit PhaseClock(RunObserver& observer) : observer_(observer) {}

  // Ends the phase before.
  void enter(Phase phase) {
    leave();
    phase_ = phase;
    observer_.on_phase(phase);
  }

  void leave() {
    const auto now = Clock::now();
    if (phase_) {
      seconds_[std::string(name_of(*phase_))] +=
          std::chrono::duration<double>(now - since_).count();
    }
    since_ = now;
    phase_.reset();
  }

  void count_step() { ++steps_; }

  // Seconds per step, by phase and in all, since the last reset.
  std::map<std::string, double> per_step() const {
    std::map<std::string, double> means = seconds_;
    for (auto& [phase, seconds] : means)
      seconds /= static_cast<double>(std::max<int64_t>(1, steps_));
    return means;
  }
  double step_s() const {
    double total = 0;
    for (const auto& [phase, seconds] : per_step()) total += seconds;
    return total;
  }
  void reset() {
    seconds_.clear();
    steps_ = 0;
  }

 private:
  using Clock = std::chrono::steady_clock;
  RunObserver& observer_;
  std::optional<Phase> phase_;
  Clock::time_point since_ = Clock::now();
  std::map<std::string, double> seconds_;
  int64_t steps_ = 0;
};

}  // namespace espalier
