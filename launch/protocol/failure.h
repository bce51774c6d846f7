#pragma once

#include <exception>
#include <string>

#include "launch/protocol/failure_class.h"

namespace espalier {

// What an exception means to whoever started the program.
struct FailureReport {
  FailureClass failure_class = FailureClass::kInternal;
  std::string message;  // one line
  std::string remedy;   // what to do, when the message does not say so itself

  int exit_code() const { return exit_code_of(failure_class); }
};
FailureReport describe_failure(const std::exception_ptr& error);

}  // namespace espalier
