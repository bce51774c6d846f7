#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace espalier {

// What a training process is doing. It tells its observer at every change, and the coordinator
// judges by it how long a rank may make no progress.
enum class Phase : uint8_t {
  kSetup,           // from the start of the process, and again while a stage is built
  kLoadCheckpoint,  // looking for the checkpoint to go on from
  kData,            // a step waits for its batches
  kAgree,           // the step's small all-reduce: waits for the slowest rank
  kForwardBackward,
  kReduce,  // the rest of the gradients is summed over ranks
  kOptimizer,
  kStatistics,    // what an objective updates outside of the gradients
  kInterference,  // a measure of interference: extra passes, sums over ranks
  kCheckpoint,
  kEvaluate,
  kFinished,  // the work is done; the process winds down
};
inline constexpr std::array kPhases = {
    Phase::kSetup,           Phase::kLoadCheckpoint, Phase::kData,      Phase::kAgree,
    Phase::kForwardBackward, Phase::kReduce,         Phase::kOptimizer, Phase::kStatistics,
    Phase::kInterference,    Phase::kCheckpoint,     Phase::kEvaluate,  Phase::kFinished};

std::string_view name_of(Phase phase);  // "forward_backward": in messages, logs and metrics
std::optional<Phase> parse_phase(std::string_view name);

// Which deadline ends a rank that makes no progress in a phase.
enum class PhaseDeadline : uint8_t { kSetup, kStep, kCheckpoint, kEvaluation };
PhaseDeadline deadline_of(Phase phase);

}  // namespace espalier
