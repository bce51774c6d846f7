#include "comm/transport/mpi_link.h"

#include <string>

#include "comm/errors.h"

namespace espalier {

void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw CommError(std::string(call) + ": " + text);
}

MpiSender::MpiSender(MPI_Comm comm, int peer, int tag, int64_t slot_bytes)
    : comm_(comm), peer_(peer), tag_(tag), slot_bytes_(slot_bytes), slots_(slot_bytes * kMpiSlots) {
  requests_.fill(MPI_REQUEST_NULL);
}

std::byte* MpiSender::free_slot() {
  int is_free = 0;  // at once for a slot that was never used
  check_mpi(MPI_Test(&requests_[sent_ % kMpiSlots], &is_free, MPI_STATUS_IGNORE), "MPI_Test");
  return is_free != 0 ? slots_.data() + sent_ % kMpiSlots * slot_bytes_ : nullptr;
}

void MpiSender::send(int64_t bytes) {
  const uint64_t index = sent_++ % kMpiSlots;
  check_mpi(MPI_Isend(slots_.data() + index * slot_bytes_, static_cast<int>(bytes), MPI_BYTE, peer_,
                      tag_, comm_, &requests_[index]),
            "MPI_Isend");
}

bool MpiSender::is_drained() {
  int is_drained = 0;
  check_mpi(MPI_Testall(kMpiSlots, requests_.data(), &is_drained, MPI_STATUSES_IGNORE),
            "MPI_Testall");
  return is_drained != 0;
}

MpiReceiver::MpiReceiver(MPI_Comm comm, int peer, int tag, int64_t slot_bytes)
    : comm_(comm), peer_(peer), tag_(tag), slot_bytes_(slot_bytes), slots_(slot_bytes * kMpiSlots) {
  for (uint64_t number = 0; number < kMpiSlots; ++number) expect(number);
}

void MpiReceiver::expect(uint64_t number) {
  check_mpi(MPI_Irecv(slot(number), static_cast<int>(slot_bytes_), MPI_BYTE, peer_, tag_, comm_,
                      &requests_[number % kMpiSlots]),
            "MPI_Irecv");
}

const std::byte* MpiReceiver::front() {
  int is_there = 0;
  check_mpi(MPI_Test(&requests_[released_ % kMpiSlots], &is_there, MPI_STATUS_IGNORE), "MPI_Test");
  return is_there != 0 ? slot(released_) : nullptr;
}

void MpiReceiver::release() {
  const uint64_t number = released_++;
  expect(number + kMpiSlots);
}

void MpiReceiver::cancel() {
  for (MPI_Request& request : requests_) {
    if (request == MPI_REQUEST_NULL) continue;
    check_mpi(MPI_Cancel(&request), "MPI_Cancel");
    check_mpi(MPI_Wait(&request, MPI_STATUS_IGNORE), "MPI_Wait");
  }
}

}  // namespace espalier
