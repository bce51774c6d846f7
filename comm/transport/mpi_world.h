#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <mpi.h>

#include "comm/collectives/relay.h"
#include "comm/collectives/topology.h"
#include "comm/transport/mpi_communicator.h"
#include "comm/transport/mpi_link.h"

namespace espalier {

// MPI as this process sees it, and the lines to the neighbours of each ring: shared memory on a
// machine, messages between machines. All calls by one thread.
//
// Destroy it only after leave(): MPI and neighbours write into its memory. After a failure it has
// to outlive the process.
class MpiWorld {
 public:
  // Starts MPI if nobody has, and waits for all ranks, without a deadline: until then mpirun ends
  // everybody when one is lost. Throws CommError when MPI cannot be used.
  explicit MpiWorld(const MpiOptions& options);
  ~MpiWorld();
  MpiWorld(const MpiWorld&) = delete;
  MpiWorld& operator=(const MpiWorld&) = delete;

  const Topology& topology() const { return *topology_; }
  const Links& links() const { return links_; }
  int64_t slot_bytes() const { return slot_bytes_; }

  // Whether all that this rank sent to other machines is on its way; else to be asked again soon.
  bool drain();

  // What all ranks come to before leave(), and the caller waits for with a deadline.
  MPI_Request start_leaving();
  // Ends MPI when the constructor started it.
  void leave();

 private:
  void start_mpi();
  std::vector<int> find_nodes(int color);
  void map_memory();
  void open_lines(bool shares_memory);
  std::byte* line_of(int rank, RingName ring) const;

  bool owns_mpi_ = false;
  MPI_Comm comm_ = MPI_COMM_NULL;
  MPI_Comm node_comm_ = MPI_COMM_NULL;  // in the order of ranks
  std::vector<int> nodes_;              // of ranks
  std::unique_ptr<Topology> topology_;
  int64_t slot_bytes_;
  MPI_Win window_ = MPI_WIN_NULL;
  std::vector<std::unique_ptr<Sender>> senders_;
  std::vector<std::unique_ptr<Receiver>> receivers_;
  std::vector<MpiSender*> message_senders_;      // of senders_
  std::vector<MpiReceiver*> message_receivers_;  // of receivers_
  Links links_;
};

}  // namespace espalier
