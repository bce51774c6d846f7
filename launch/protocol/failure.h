#pragma once

#include <exception>
#include <string>

namespace espalier {

inline constexpr int kExitDone = 0;
inline constexpr int kExitUsage = 64;
inline constexpr int kExitInternal = 70;
inline constexpr int kExitStopped = 75;
inline constexpr int kExitDoNotRequeue = 93;

// What an exception means to whoever started the program.
struct FailureReport {
  int exit_code = kExitInternal;
  std::string failure_class;  // as the coordinator knows them
  std::string message;        // one line
  std::string remedy;         // what to do, when the message does not say so itself
};
FailureReport describe_failure(const std::exception_ptr& error);

}  // namespace espalier
