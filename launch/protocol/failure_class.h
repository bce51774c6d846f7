#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace espalier {

// Exit codes of every process of the project: this is the only place that has their numbers.
inline constexpr int kExitDone = 0;
inline constexpr int kExitUsage = 64;     // arguments, config, data, weights: the user's to fix
inline constexpr int kExitInternal = 70;  // anything that is nobody's fault but ours or a peer's
inline constexpr int kExitStopped = 75;   // with a checkpoint: start the same command again
inline constexpr int kExitDoNotRequeue = 93;  // starting again is no use

// Why a rank, or a launch of all ranks, ended. The reason travels by message and by error file,
// because a launcher's exit code cannot carry it.
enum class FailureClass : uint8_t {
  kConfig,
  kData,
  kWeights,
  kOutOfMemory,
  kNumeric,       // gradients that stay non-finite
  kDoNotRequeue,  // any other reason why starting again would end the same way
  kStorage,       // a disk that is full, or fails
  kCommunication,
  kInternal,
  kCrash,  // a process is gone; only the coordinator sees it
  kHang,   // a process is silent or makes no progress; only the coordinator sees it
};

// "out_of_memory": in messages and error files.
std::string_view name_of(FailureClass failure);
std::optional<FailureClass> parse_failure_class(std::string_view name);

// With what a process of this failure ends. A run ends with it too where a relaunch is of no use;
// where it is of use, a run that runs out of launches ends with kExitDoNotRequeue: that is the exit
// code of a run whose ranks hang again and again.
int exit_code_of(FailureClass failure);

// Whether another launch, from the newest checkpoint, may end better.
bool is_relaunch_of_use(FailureClass failure);

// The same asked of the exit code of a process that could not say why it ended.
bool is_relaunch_of_use_after(int exit_code);

// One line for `espalier --help`.
std::string explain_exit_codes();

}  // namespace espalier
