#pragma once

#include <optional>

#include "launch/coordinator/coordinator_events.h"

namespace espalier {

// When to ask for a last checkpoint if the scheduler ends the job at a known time: so long before
// that two saves fit in, one that has just begun and the last, and the longest that ranks have kept
// a stop waiting, in a step or an evaluation. Pure.
class TimeLimit {
 public:
  // A stop may take so long; nothing is gained by asking earlier than that.
  explicit TimeLimit(Seconds longest_stop) : longest_stop_(longest_stop) {}

  void set(const JobEnds& end) { end_ = end; }
  std::optional<Seconds> end() const { return end_ ? std::optional(end_->at) : std::nullopt; }

  // Of rank 0.
  void beat(int64_t step, Phase phase, Seconds now);
  void preparing(Seconds now);
  void committed(Seconds now);
  void forget_processes();  // others come: what they are at is not known

  Seconds margin() const;
  bool is_due(Seconds now) const { return end_ && now >= end_->at - margin(); }

 private:
  Seconds longest_stop_;
  std::optional<JobEnds> end_;
  int64_t step_ = -1;
  Seconds step_since_ = 0;
  Phase phase_ = Phase::kSetup;
  std::optional<Seconds> saving_since_;
  Seconds longest_save_ = 0;
  Seconds longest_wait_ = 0;
};

}  // namespace espalier
