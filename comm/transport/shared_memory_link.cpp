#include "comm/transport/shared_memory_link.h"

#include <atomic>
#include <new>

namespace espalier {
namespace {

constexpr int64_t kCacheLine = 64;

// Each counter is written by one side only, on a cache line of its own.
struct Counters {
  alignas(kCacheLine) std::atomic<uint64_t> sent = 0;
  alignas(kCacheLine) std::atomic<uint64_t> released = 0;
};
static_assert(std::atomic<uint64_t>::is_always_lock_free, "processes share it");

std::byte* slot_of(std::byte* memory, uint64_t number, int64_t slot_bytes) {
  return memory + sizeof(Counters) +
         static_cast<int64_t>(number % SharedMemoryLine::kSlots) * slot_bytes;
}

class SharedMemorySender : public Sender {
 public:
  SharedMemorySender(std::byte* memory, int64_t slot_bytes)
      : memory_(memory), slot_bytes_(slot_bytes), counters_(new (memory) Counters) {}

  std::byte* free_slot() override {
    // Reads the other side's cache line only when the slots that were known to be free are gone.
    if (sent_ - released_ == SharedMemoryLine::kSlots) {
      released_ = counters_->released.load(std::memory_order_acquire);
      if (sent_ - released_ == SharedMemoryLine::kSlots) return nullptr;
    }
    return slot_of(memory_, sent_, slot_bytes_);
  }

  void send(int64_t) override { counters_->sent.store(++sent_, std::memory_order_release); }

 private:
  std::byte* const memory_;
  const int64_t slot_bytes_;
  Counters* const counters_;
  uint64_t sent_ = 0;
  uint64_t released_ = 0;  // as last seen
};

class SharedMemoryReceiver : public Receiver {
 public:
  SharedMemoryReceiver(std::byte* memory, int64_t slot_bytes)
      : memory_(memory),
        slot_bytes_(slot_bytes),
        counters_(std::launder(reinterpret_cast<Counters*>(memory))) {}

  const std::byte* front() override {
    if (sent_ == released_) {
      sent_ = counters_->sent.load(std::memory_order_acquire);
      if (sent_ == released_) return nullptr;
    }
    return slot_of(memory_, released_, slot_bytes_);
  }

  void release() override { counters_->released.store(++released_, std::memory_order_release); }

 private:
  std::byte* const memory_;
  const int64_t slot_bytes_;
  Counters* const counters_;
  uint64_t sent_ = 0;  // as last seen
  uint64_t released_ = 0;
};

}  // namespace

int64_t SharedMemoryLine::bytes_for(int64_t slot_bytes) {
  return static_cast<int64_t>(sizeof(Counters)) + kSlots * slot_bytes;
}

std::unique_ptr<Sender> SharedMemoryLine::make_sender(std::byte* memory, int64_t slot_bytes) {
  return std::make_unique<SharedMemorySender>(memory, slot_bytes);
}

std::unique_ptr<Receiver> SharedMemoryLine::open_receiver(std::byte* memory, int64_t slot_bytes) {
  return std::make_unique<SharedMemoryReceiver>(memory, slot_bytes);
}

}  // namespace espalier
