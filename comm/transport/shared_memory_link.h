#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "comm/collectives/link.h"

namespace espalier {

// A line between two processes in memory that both have mapped: two counters and the slots. One
// copy in, and the receiver reads where it lies. Slots that fit into a core's cache, several of
// them, never see main memory.
struct SharedMemoryLine {
  static constexpr int kSlots = 8;

  // Bytes that a line takes up, at an address that is a multiple of a cache line.
  static int64_t bytes_for(int64_t slot_bytes);

  // Whoever sends prepares the memory, before the receiver opens it.
  static std::unique_ptr<Sender> make_sender(std::byte* memory, int64_t slot_bytes);
  static std::unique_ptr<Receiver> open_receiver(std::byte* memory, int64_t slot_bytes);
};

}  // namespace espalier
