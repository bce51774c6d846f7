#include "comm/collectives/schedule.h"

#include <algorithm>

namespace espalier {
namespace {

int modulo(int value, int size) { return (value % size + size) % size; }

// The `part`-th of equal parts of `cells`, one for each rank of a ring.
Cells part_of(Cells cells, int part, int parts) {
  const int width = cells.count() / parts;
  const int begin = cells.begin + modulo(part, parts) * width;
  return {begin, begin + width};
}

// Ends with the part after this rank's own index added up here.
void append_reduce_scatter(std::vector<Hop>& hops, RingName name, const Ring& ring, Cells cells) {
  const int size = ring.size();
  for (int step = 0; step + 1 < size; ++step) {
    hops.push_back({name, part_of(cells, ring.index - step, size),
                    part_of(cells, ring.index - step - 1, size), /*combines=*/true});
  }
}

// Begins where append_reduce_scatter() ends.
void append_all_gather(std::vector<Hop>& hops, RingName name, const Ring& ring, Cells cells) {
  const int size = ring.size();
  for (int step = 0; step + 1 < size; ++step) {
    hops.push_back({name, part_of(cells, ring.index + 1 - step, size),
                    part_of(cells, ring.index - step, size), /*combines=*/false});
  }
}

}  // namespace

int Schedule::widest_hop() const {
  int widest = 1;
  for (const Hop& hop : hops) {
    if (hop.send) widest = std::max(widest, hop.send->count());
    if (hop.receive) widest = std::max(widest, hop.receive->count());
  }
  return widest;
}

Schedule all_reduce_schedule(const Topology& topology) {
  Schedule schedule{topology.size(), {}};
  const Cells all = {0, topology.size()};
  if (!topology.is_hierarchical()) {
    const Ring& world = topology.ring(RingName::kWorld);
    append_reduce_scatter(schedule.hops, RingName::kWorld, world, all);
    append_all_gather(schedule.hops, RingName::kWorld, world, all);
    return schedule;
  }
  const Ring& node = topology.ring(RingName::kNode);
  const Ring& across = topology.ring(RingName::kAcross);
  const Cells mine = part_of(all, node.index + 1, node.size());
  append_reduce_scatter(schedule.hops, RingName::kNode, node, all);
  append_reduce_scatter(schedule.hops, RingName::kAcross, across, mine);
  append_all_gather(schedule.hops, RingName::kAcross, across, mine);
  append_all_gather(schedule.hops, RingName::kNode, node, all);
  return schedule;
}

Schedule all_gather_schedule(const Topology& topology) {
  Schedule schedule{topology.size(), {}};
  const Ring& world = topology.ring(RingName::kWorld);
  const auto row = [&](int index) {
    const int rank = world.ranks[modulo(index, world.size())];
    return Cells{rank, rank + 1};
  };
  for (int step = 0; step + 1 < world.size(); ++step) {
    schedule.hops.push_back({RingName::kWorld, row(world.index - step), row(world.index - step - 1),
                             /*combines=*/false});
  }
  return schedule;
}

Schedule broadcast_schedule(const Topology& topology, int root) {
  Schedule schedule;
  const Ring& world = topology.ring(RingName::kWorld);
  const auto place_of_root = std::find(world.ranks.begin(), world.ranks.end(), root);
  const int distance =
      modulo(world.index - static_cast<int>(place_of_root - world.ranks.begin()), world.size());
  for (int step = 0; step + 1 < world.size(); ++step) {
    Hop hop;
    if (step == distance) hop.send = Cells{0, 1};
    if (step + 1 == distance) hop.receive = Cells{0, 1};
    schedule.hops.push_back(hop);
  }
  return schedule;
}

}  // namespace espalier
