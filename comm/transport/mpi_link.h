#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <mpi.h>

#include "comm/collectives/link.h"

namespace espalier {

// Throws CommError with the library's text when `code`, which `call` returned, is an error.
void check_mpi(int code, const char* call);

// Lines of MPI messages, between machines: MPI delivers those of one pair and tag in order. Both
// ends have buffers of their own, so what was sent may be overwritten at once. MPI reads and writes
// these until the end: after a failure an object must outlive MPI.
constexpr int kMpiSlots = 4;

class MpiSender : public Sender {
 public:
  MpiSender(MPI_Comm comm, int peer, int tag, int64_t slot_bytes);

  std::byte* free_slot() override;
  void send(int64_t bytes) override;
  // Whether all that was sent is on its way. MPI works only inside of its calls: over TCP the first
  // message waits for its connection, and leaves when this is asked again, or never.
  bool is_drained();

 private:
  const MPI_Comm comm_;
  const int peer_;
  const int tag_;
  const int64_t slot_bytes_;
  std::vector<std::byte> slots_;
  std::array<MPI_Request, kMpiSlots> requests_;
  uint64_t sent_ = 0;
};

class MpiReceiver : public Receiver {
 public:
  MpiReceiver(MPI_Comm comm, int peer, int tag, int64_t slot_bytes);

  const std::byte* front() override;
  void release() override;
  void cancel();  // before MPI ends, when nothing more will come

 private:
  std::byte* slot(uint64_t number) { return slots_.data() + number % kMpiSlots * slot_bytes_; }
  void expect(uint64_t number);

  const MPI_Comm comm_;
  const int peer_;
  const int tag_;
  const int64_t slot_bytes_;
  std::vector<std::byte> slots_;
  std::array<MPI_Request, kMpiSlots> requests_;
  uint64_t released_ = 0;
};

}  // namespace espalier
