#pragma once

#include <cstddef>
#include <cstdint>

namespace espalier {

// The two ends of a one-way line of a few slots from one rank to another. Messages arrive in the
// order in which they were sent. No call blocks. One thread per end.
class Sender {
 public:
  virtual ~Sender() = default;

  virtual std::byte* free_slot() = 0;    // null while the line is full
  virtual void send(int64_t bytes) = 0;  // what was written to free_slot()
};

class Receiver {
 public:
  virtual ~Receiver() = default;

  virtual const std::byte* front() = 0;  // the oldest message, null while there is none
  virtual void release() = 0;            // its slot may be used again
};

}  // namespace espalier
