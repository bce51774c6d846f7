#pragma once

#include <cstddef>
#include <memory>
#include <random>
#include <vector>

#include "comm/collectives/relay.h"
#include "comm/collectives/schedule.h"
#include "comm/transport/shared_memory_link.h"

namespace espalier {

// All ranks of a world in one thread, joined by lines in plain memory, which take turns in an order
// that a seed decides: whatever they do must not depend on it.
class SimulatedRanks {
 public:
  static constexpr int64_t kSlotBytes = 4096;

  explicit SimulatedRanks(const std::vector<int>& nodes) : links_(nodes.size()) {
    for (int rank = 0; rank < static_cast<int>(nodes.size()); ++rank) {
      topologies_.emplace_back(nodes, rank);
    }
    for (const Topology& topology : topologies_) {
      for (const RingName name : {RingName::kWorld, RingName::kNode, RingName::kAcross}) {
        if (topology.ring(name).size() > 1) connect(topology, name);
      }
    }
  }

  int size() const { return static_cast<int>(topologies_.size()); }
  const Topology& topology(int rank) const { return topologies_[rank]; }

  // Lets every rank carry out its schedule on its layout. False when all are stuck.
  bool run(const std::vector<Schedule>& schedules, const std::vector<Layout>& layouts,
           combine::Function combine, unsigned seed) {
    std::vector<Relay> relays;
    for (int rank = 0; rank < size(); ++rank) {
      relays.emplace_back(schedules[rank], layouts[rank], combine, links_[rank]);
    }
    std::mt19937 random(seed);
    for (int idle_turns = 0, left = size(); left > 0;) {
      Relay& relay = relays[random() % relays.size()];
      if (relay.is_done()) {
        left = 0;
        for (const Relay& other : relays) left += other.is_done() ? 0 : 1;
        continue;
      }
      idle_turns = relay.advance() ? 0 : idle_turns + 1;
      if (idle_turns > 1000 * size()) return false;
    }
    return true;
  }

 private:
  struct alignas(64) CacheLine {
    std::byte bytes[64];
  };

  void connect(const Topology& topology, RingName name) {
    const auto ring = static_cast<size_t>(name);
    const int next = topology.ring(name).next();
    memory_.push_back(
        std::make_unique<CacheLine[]>(SharedMemoryLine::bytes_for(kSlotBytes) / 64 + 1));
    auto* const line = memory_.back()[0].bytes;
    senders_.push_back(SharedMemoryLine::make_sender(line, kSlotBytes));
    receivers_.push_back(SharedMemoryLine::open_receiver(line, kSlotBytes));
    links_[topology.rank()][ring].next = senders_.back().get();
    links_[next][ring].previous = receivers_.back().get();
  }

  std::vector<Topology> topologies_;
  std::vector<Links> links_;
  std::vector<std::unique_ptr<CacheLine[]>> memory_;
  std::vector<std::unique_ptr<Sender>> senders_;
  std::vector<std::unique_ptr<Receiver>> receivers_;
};

}  // namespace espalier
