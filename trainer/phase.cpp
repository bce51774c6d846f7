#include "trainer/phase.h"

namespace espalier {

// No default in these two: the compiler asks for a new phase's name and deadline.
std::string_view name_of(Phase phase) {
  switch (phase) {
    case Phase::kSetup:
      return "setup";
    case Phase::kLoadCheckpoint:
      return "load_checkpoint";
    case Phase::kData:
      return "data";
    case Phase::kAgree:
      return "agree";
    case Phase::kForwardBackward:
      return "forward_backward";
    case Phase::kReduce:
      return "reduce";
    case Phase::kOptimizer:
      return "optimizer";
    case Phase::kStatistics:
      return "statistics";
    case Phase::kInterference:
      return "interference";
    case Phase::kCheckpoint:
      return "checkpoint";
    case Phase::kEvaluate:
      return "evaluate";
    case Phase::kFinished:
      return "finished";
  }
  return "";
}

PhaseDeadline deadline_of(Phase phase) {
  switch (phase) {
    case Phase::kSetup:
    case Phase::kLoadCheckpoint:
    case Phase::kFinished:
      return PhaseDeadline::kSetup;
    case Phase::kData:
    case Phase::kAgree:
    case Phase::kForwardBackward:
    case Phase::kReduce:
    case Phase::kOptimizer:
    case Phase::kStatistics:
    case Phase::kInterference:
      return PhaseDeadline::kStep;
    case Phase::kCheckpoint:
      return PhaseDeadline::kCheckpoint;
    case Phase::kEvaluate:
      return PhaseDeadline::kEvaluation;
  }
  return PhaseDeadline::kStep;
}

std::optional<Phase> parse_phase(std::string_view name) {
  for (const Phase phase : kPhases) {
    if (name_of(phase) == name) return phase;
  }
  return std::nullopt;
}

}  // namespace espalier
