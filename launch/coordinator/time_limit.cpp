#include "launch/coordinator/time_limit.h"

#include <algorithm>

namespace espalier {

void TimeLimit::beat(int64_t step, Phase phase, Seconds now) {
  // A save that no commit ended (its files could not be written) must not count until the next.
  if (phase == Phase::kCheckpoint && phase_ != Phase::kCheckpoint) saving_since_ = now;
  phase_ = phase;
  if (step == step_) return;
  if (step_ >= 0) longest_wait_ = std::max(longest_wait_, now - step_since_);
  step_ = step;
  step_since_ = now;
}

void TimeLimit::preparing(Seconds now) {
  if (!saving_since_) saving_since_ = now;
}

void TimeLimit::committed(Seconds now) {
  if (saving_since_) longest_save_ = std::max(longest_save_, now - *saving_since_);
  saving_since_.reset();
}

void TimeLimit::forget_processes() {
  step_ = -1;
  saving_since_.reset();
}

Seconds TimeLimit::margin() const {
  const Seconds least = end_ ? end_->stop_before : JobEnds{0}.stop_before;
  return std::clamp(2 * longest_save_ + longest_wait_, least, std::max(least, longest_stop_));
}

}  // namespace espalier
