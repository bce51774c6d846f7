#pragma once

namespace espalier {

// An operation under way. Its tensors must not be read or written before wait() returns.
class Work {
 public:
  virtual ~Work() = default;

  // Blocks until the result is there, or throws CommError; every call after that does the same.
  virtual void wait() = 0;
};

}  // namespace espalier
