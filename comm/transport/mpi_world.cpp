#include "comm/transport/mpi_world.h"

#include <algorithm>

#include "comm/errors.h"
#include "comm/transport/shared_memory_link.h"

namespace espalier {
namespace {

// Between machines a cell should be worth a message, however many machines share a slot.
constexpr int64_t kLargestSlot = 1 << 20;

int64_t slot_bytes_for(const Topology& topology, int64_t wanted) {
  const int64_t machines = topology.ring(RingName::kAcross).size();
  return std::max(wanted, std::min(wanted * machines, kLargestSlot));
}

}  // namespace

MpiWorld::MpiWorld(const MpiOptions& options) : slot_bytes_(options.slot_bytes) {
  start_mpi();
  int rank = 0;
  check_mpi(MPI_Comm_rank(comm_, &rank), "MPI_Comm_rank");
  nodes_ = find_nodes(options.node);
  topology_ = std::make_unique<Topology>(nodes_, rank);
  slot_bytes_ = slot_bytes_for(*topology_, options.slot_bytes);
  map_memory();
  open_lines(options.shares_memory);
}

MpiWorld::~MpiWorld() = default;

void MpiWorld::start_mpi() {
  int is_running = 0;
  int has_ended = 0;
  int level = 0;
  check_mpi(MPI_Initialized(&is_running), "MPI_Initialized");
  check_mpi(MPI_Finalized(&has_ended), "MPI_Finalized");
  if (has_ended) throw CommError("MPI has ended in this process, and cannot start again");
  if (is_running) {
    check_mpi(MPI_Query_thread(&level), "MPI_Query_thread");
  } else {
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &level), "MPI_Init_thread");
    owns_mpi_ = true;
  }
  if (level < MPI_THREAD_SERIALIZED) {
    throw CommError(
        "MPI must offer MPI_THREAD_SERIALIZED: its progress thread is not the main one");
  }
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
}

// A node is called by its first rank.
std::vector<int> MpiWorld::find_nodes(int color) {
  int rank = 0;
  int size = 1;
  check_mpi(MPI_Comm_rank(comm_, &rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(comm_, &size), "MPI_Comm_size");
  check_mpi(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node_comm_),
            "MPI_Comm_split_type");
  if (color >= 0) {
    MPI_Comm host = node_comm_;
    check_mpi(MPI_Comm_split(host, color, rank, &node_comm_), "MPI_Comm_split");
    check_mpi(MPI_Comm_free(&host), "MPI_Comm_free");
  }
  int first = rank;
  check_mpi(MPI_Allreduce(&rank, &first, 1, MPI_INT, MPI_MIN, node_comm_), "MPI_Allreduce");
  std::vector<int> nodes(size);
  check_mpi(MPI_Allgather(&first, 1, MPI_INT, nodes.data(), 1, MPI_INT, comm_), "MPI_Allgather");
  return nodes;
}

// Each rank has the lines on which it sends: to its neighbours of the world's ring and the node's.
void MpiWorld::map_memory() {
  MPI_Info info = MPI_INFO_NULL;
  check_mpi(MPI_Info_create(&info), "MPI_Info_create");
  // So that the part of each rank begins at a page.
  check_mpi(MPI_Info_set(info, "alloc_shared_noncontig", "true"), "MPI_Info_set");
  void* mine = nullptr;
  const MPI_Aint bytes = 2 * SharedMemoryLine::bytes_for(slot_bytes_);
  check_mpi(MPI_Win_allocate_shared(bytes, 1, info, node_comm_, &mine, &window_),
            "MPI_Win_allocate_shared");
  check_mpi(MPI_Info_free(&info), "MPI_Info_free");
  // Plain loads and stores from here on, ordered by the lines themselves.
  check_mpi(MPI_Win_lock_all(MPI_MODE_NOCHECK, window_), "MPI_Win_lock_all");
}

std::byte* MpiWorld::line_of(int rank, RingName ring) const {
  const int node = nodes_[rank];
  const auto place = std::count(nodes_.begin(), nodes_.begin() + rank, node);
  MPI_Aint bytes = 0;
  int unit = 1;
  std::byte* memory = nullptr;
  check_mpi(MPI_Win_shared_query(window_, static_cast<int>(place), &bytes, &unit, &memory),
            "MPI_Win_shared_query");
  return memory + (ring == RingName::kNode ? SharedMemoryLine::bytes_for(slot_bytes_) : 0);
}

void MpiWorld::open_lines(bool shares_memory) {
  const auto is_near = [&](int rank) { return shares_memory && topology_->shares_node_with(rank); };
  constexpr RingName kNames[] = {RingName::kWorld, RingName::kNode, RingName::kAcross};
  for (const RingName name : kNames) {
    const Ring& ring = topology_->ring(name);
    if (ring.size() == 1) continue;
    if (is_near(ring.next())) {
      senders_.push_back(
          SharedMemoryLine::make_sender(line_of(topology_->rank(), name), slot_bytes_));
    } else {
      auto sender =
          std::make_unique<MpiSender>(comm_, ring.next(), static_cast<int>(name), slot_bytes_);
      message_senders_.push_back(sender.get());
      senders_.push_back(std::move(sender));
    }
    links_[static_cast<size_t>(name)].next = senders_.back().get();
  }
  check_mpi(MPI_Barrier(node_comm_), "MPI_Barrier");  // the senders have prepared their lines
  for (const RingName name : kNames) {
    const Ring& ring = topology_->ring(name);
    if (ring.size() == 1) continue;
    if (is_near(ring.previous())) {
      receivers_.push_back(
          SharedMemoryLine::open_receiver(line_of(ring.previous(), name), slot_bytes_));
    } else {
      auto receiver = std::make_unique<MpiReceiver>(comm_, ring.previous(), static_cast<int>(name),
                                                    slot_bytes_);
      message_receivers_.push_back(receiver.get());
      receivers_.push_back(std::move(receiver));
    }
    links_[static_cast<size_t>(name)].previous = receivers_.back().get();
  }
}

bool MpiWorld::drain() {
  bool is_drained = true;
  for (MpiSender* sender : message_senders_) is_drained = sender->is_drained() && is_drained;
  return is_drained;
}

MPI_Request MpiWorld::start_leaving() {
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Ibarrier(comm_, &request), "MPI_Ibarrier");
  return request;
}

void MpiWorld::leave() {
  for (MpiReceiver* receiver : message_receivers_) receiver->cancel();
  check_mpi(MPI_Win_unlock_all(window_), "MPI_Win_unlock_all");
  check_mpi(MPI_Win_free(&window_), "MPI_Win_free");
  check_mpi(MPI_Comm_free(&node_comm_), "MPI_Comm_free");
  check_mpi(MPI_Comm_free(&comm_), "MPI_Comm_free");
  if (owns_mpi_) check_mpi(MPI_Finalize(), "MPI_Finalize");
}

}  // namespace espalier
