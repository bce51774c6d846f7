#pragma once

#include <cstddef>
#include <vector>

namespace espalier {

// Ranks that pass bytes on in a circle, seen from one of them.
struct Ring {
  std::vector<int> ranks;  // numbers in the world
  int index = 0;           // of this rank in `ranks`

  int size() const { return static_cast<int>(ranks.size()); }
  int next() const { return ranks[(index + 1) % size()]; }
  int previous() const { return ranks[(index + size() - 1) % size()]; }
};

enum class RingName { kWorld, kNode, kAcross };
constexpr size_t kRings = 3;

// Which ranks share a machine, and the rings that follow, seen from one rank:
//   kWorld   everybody, machine by machine, so that each boundary is crossed once
//   kNode    the ranks of this machine
//   kAcross  one rank of every machine: those with this one's place on theirs
// The last two exist when there are several machines with equally many ranks each, and more than
// one; elsewhere they have this rank alone.
class Topology {
 public:
  // `node_of_rank`: any numbers, equal for ranks that share memory.
  Topology(const std::vector<int>& node_of_rank, int rank);

  const Ring& ring(RingName name) const { return rings_[static_cast<size_t>(name)]; }
  bool is_hierarchical() const { return ring(RingName::kAcross).size() > 1; }
  bool shares_node_with(int rank) const { return node_of_rank_[rank] == node_of_rank_[rank_]; }
  int ranks_on_node() const;
  int rank() const { return rank_; }
  int size() const { return static_cast<int>(node_of_rank_.size()); }

 private:
  std::vector<int> node_of_rank_;
  int rank_;
  Ring rings_[kRings];
};

}  // namespace espalier
