#pragma once

#include <cstdint>
#include <memory>

#include "comm/communicator.h"

namespace espalier {

struct MpiOptions {
  // An operation without any progress for so long ends in Timeout, and the communicator is dead.
  double timeout_s;
  // Tensors travel in pieces: one call for 64 MiB maps and faults fresh pages for its buffers each
  // time, and takes 4 to 10 times as long.
  int64_t piece_bytes = 2 << 20;
};

// All ranks of MPI_COMM_WORLD, for tensors in host memory. One progress thread makes every MPI
// call, so that operations advance while the caller computes.
//
// It starts MPI when nobody has, and then ends it too, when the communicator is destroyed: once per
// process. MPI that already runs (at MPI_THREAD_SERIALIZED at least) is used, and left running;
// nobody else may be inside MPI while operations are under way.
//
// A rank that leaves by an exception, or after a CommError, does not end MPI, because that would
// wait for its peers: the process ends without, mpirun notices, and ends the peers that wait for
// it. So create the communicator inside the scope that an exception leaves.
std::unique_ptr<Communicator> make_mpi_communicator(const MpiOptions& options);

}  // namespace espalier
