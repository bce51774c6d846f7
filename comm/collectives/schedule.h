#pragma once

#include <optional>
#include <vector>

#include "comm/collectives/topology.h"

namespace espalier {

// A run of the cells that a piece of a tensor is divided in.
struct Cells {
  int begin = 0;
  int end = 0;
  int count() const { return end - begin; }
};

// What one rank does in one step of a collective: passes cells on, and takes others in.
struct Hop {
  RingName ring = RingName::kWorld;
  std::optional<Cells> send;     // to the next of the ring, after the hops before
  std::optional<Cells> receive;  // from the one before
  bool combines = false;         // what comes is added to what is there, not put in its place
};

// A collective as one rank sees it, for every piece of a tensor alike. All ranks have equally many
// hops, and what one sends in its n-th hop the next one receives in its n-th.
//
// Note [Reduction order]: a cell is added up along one path, and the finished bytes are handed
// round. So results have the same bits on all ranks, and depend only on rank numbers, machines and
// sizes, never on who comes first.
struct Schedule {
  int cells = 1;
  std::vector<Hop> hops;
  int widest_hop() const;  // in cells
};

// Each rank sends and receives 2(p-1)/p of the bytes, which is the least there is. With several
// ranks on each of several machines the ring is made of two: reduce-scatter on the machine,
// all-reduce of this rank's part across machines, all-gather on the machine; so 2(m-1)/m of 1/g of
// the bytes leave through a rank, of g on each of m machines. Latency grows with the ranks: 2(p-1)
// hops, or 2(g-1) + 2(m-1).
Schedule all_reduce_schedule(const Topology& topology);

// Cell n is what rank n has. (p-1)/p of the output through each rank.
Schedule all_gather_schedule(const Topology& topology);

// A chain from `root` on, along the world's ring.
Schedule broadcast_schedule(const Topology& topology, int root);

}  // namespace espalier
