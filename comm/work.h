#pragma once

namespace espalier {

// An operation under way. Its tensors must not be read or written before wait() returns, or, by
// what is given to the current stream, after order_stream().
class Work {
 public:
  virtual ~Work() = default;

  // Blocks until the result is there, or throws CommError; every call after that does the same.
  virtual void wait() = 0;

  // Lets the current stream of the tensors' device wait instead of the host, where the transport
  // can; elsewhere, and on CPUs, it is wait(). A failure after its return surfaces at the next wait
  // for any operation of the communicator.
  virtual void order_stream() { wait(); }
};

}  // namespace espalier
