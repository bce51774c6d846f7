#pragma once

#include <cstdint>
#include <memory>

#include "comm/communicator.h"

namespace espalier {

// How bytes move; what is left out is found out.
struct MpiOptions {
  // Ranks of one machine with equal numbers are taken for a machine of their own; -1: those that
  // share memory.
  int node = -1;
  // What a neighbour passes on at a time: several must fit into a core's cache.
  int64_t slot_bytes = 64 << 10;
  bool shares_memory = true;    // false: messages on a machine too
  bool stages_tensors = false;  // tensors in host memory too go through a copy, as those on GPUs
};

// All ranks of MPI_COMM_WORLD, for tensors in host memory or on any device that copies to it. MPI
// brings the ranks together and carries what leaves a machine; within one they pass bytes on
// through shared memory (comm/collectives). One progress thread does all of it, so that operations
// advance while the caller computes.
//
// It starts MPI when nobody has, and then ends it too, when the communicator is destroyed: once per
// process. MPI that already runs (at MPI_THREAD_SERIALIZED at least) is used, and left running;
// nobody else may be inside MPI while operations are under way.
//
// A tensor on a GPU travels through pinned host memory: several ranks may share a GPU, and a build
// without NCCL can train. Its result comes back when somebody waits for it or for a later one;
// order_stream() too waits on the host for the ranks, but no longer for the copy.
//
// A rank that leaves by an exception, or after a CommError, does not end MPI, because that would
// wait for its peers: the process ends without, mpirun notices, and ends the peers that wait for
// it. So create the communicator inside the scope that an exception leaves.
std::unique_ptr<Communicator> make_mpi_communicator(const CommunicatorOptions& options,
                                                    const MpiOptions& mpi = {});

}  // namespace espalier
