#pragma once

#include <stdexcept>
#include <string>

namespace espalier {

// The user's to fix: config, arguments, paths. Exit code 64. The message says what, where (file
// and line or key) and what would be right.
class ConfigError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Starting again would end the same way or destroy something: checkpoints exist but none
// validates. Exit code 93.
class DoNotRequeueError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The disk's: a write, fsync, rename or read that failed. The message has the file and the system's
// reason. Exit code 70; starting again may end better, as when somebody makes room.
class StorageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A simulator that an evaluation drives is dead, silent or talks nonsense, or it refused a
// question. The message says which, with its exit status and last lines. Whoever evaluates catches
// it, so that training goes on without that evaluation; uncaught it counts as internal, exit
// code 70.
class SimulatorError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Loss or gradients stay non-finite.
class NumericError : public DoNotRequeueError {
 public:
  using DoNotRequeueError::DoNotRequeueError;
};

}  // namespace espalier
