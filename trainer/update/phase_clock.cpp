#include "trainer/update/phase_clock.h"

#include <algorithm>

#include <c10/core/impl/VirtualGuardImpl.h>

namespace espalier {
namespace {

constexpr double kMillisecond = 1e-3;

}  // namespace

PhaseClock::PhaseClock(RunObserver& observer, c10::Device device)
    : observer_(observer), device_(device) {}

void PhaseClock::enter(Phase phase) {
  if (device_.is_cpu()) {
    leave();
  } else {
    mark(phase);
  }
  phase_ = phase;
  observer_.on_phase(phase);
}

void PhaseClock::leave() {
  const auto now = Clock::now();
  if (!device_.is_cpu()) {
    if (phase_) mark(std::nullopt);
  } else if (phase_) {
    add(*phase_, std::chrono::duration<double>(now - since_).count());
  }
  since_ = now;
  phase_.reset();
}

void PhaseClock::mark(std::optional<Phase> phase) {
  marks_.push_back({phase, c10::Event(device_.type(), c10::EventFlag::BACKEND_DEFAULT)});
  marks_.back().event.record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
}

void PhaseClock::settle() {
  if (marks_.empty()) return;
  for (size_t i = 0; i + 1 < marks_.size(); ++i) {
    if (!marks_[i].phase) continue;
    add(*marks_[i].phase, kMillisecond * marks_[i].event.elapsedTime(marks_[i + 1].event));
  }
  marks_.erase(marks_.begin(), marks_.end() - 1);
}

std::map<std::string, double> PhaseClock::per_step() const {
  std::map<std::string, double> means = seconds_;
  for (auto& [phase, seconds] : means) seconds /= static_cast<double>(std::max<int64_t>(1, steps_));
  return means;
}

double PhaseClock::step_s() const {
  double total = 0;
  for (const auto& [phase, seconds] : per_step()) total += seconds;
  return total;
}

void PhaseClock::reset() {
  seconds_.clear();
  steps_ = 0;
}

}  // namespace espalier
