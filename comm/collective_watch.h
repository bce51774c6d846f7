#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include <c10/core/ScalarType.h>

namespace at {
class Tensor;
}

namespace espalier {

// One call of a Communicator, in a form that costs no memory to make: its text is only put together
// when somebody reads it. The strings behind `name` and `argument` must live as long as the
// program.
struct CollectiveCall {
  CollectiveCall() = default;
  CollectiveCall(const char* operation, const at::Tensor& tensor, const char* with = nullptr);

  // "all_reduce(Float[3, 4], sum)", "broadcast(Byte[12], root 1)", "barrier".
  std::string describe() const;

  const char* name = "";
  const char* argument = nullptr;                     // of a reduction: "sum"
  int root = -1;                                      // of a broadcast
  c10::ScalarType type = c10::ScalarType::Undefined;  // Undefined: no tensor
  int dimensions = 0;
  std::array<int64_t, 5> sizes = {};  // of more dimensions, the first ones
  int64_t bytes = 0;
};

// The flight recorder of one process: its latest collectives, over all its communicators, in the
// order of their issue. Ranks issue the same ones, so equal numbers mean equal operations, and the
// rank with the lowest number is the one the others wait for.
//
// Any thread may call anything. Recording is a mutex held for a few stores, and two readings of the
// clock an operation: tests/bench/all_reduce_bench prints what that costs.
class CollectiveWatch {
 public:
  explicit CollectiveWatch(size_t capacity = 2000);  // older operations are forgotten

  struct Latest {
    uint64_t issued = 0;     // the number of the last operation; the first has number 1
    uint64_t completed = 0;  // the highest number of one that ended well
    std::string operation;   // the oldest unfinished one; empty when there is none
    double waited_s = 0;     // since its issue
  };
  Latest latest() const;  // costs no more than one record

  // Writes what it remembers as JSON lines: first who and when, then the operations, oldest first.
  // Throws std::runtime_error when the file cannot be written.
  void dump(const std::string& path, int rank) const;

  // For communicators. Numbers of operations that are no longer remembered are ignored.
  uint64_t on_issue(const std::string& group, const CollectiveCall& call);
  void on_start(uint64_t number);  // its first byte can move; without this call only its end shows
  void on_end(uint64_t number);

 private:
  using Clock = std::chrono::steady_clock;
  struct Entry {
    uint64_t number = 0;
    std::array<char, 16> group = {};
    CollectiveCall call;
    Clock::time_point issued;
    Clock::time_point started;  // the epoch: not yet
    Clock::time_point ended;
  };

  Entry* find(uint64_t number);
  const Entry& entry_of(uint64_t number) const { return entries_[number % entries_.size()]; }
  std::string line(const Entry& entry) const;
  double seconds(Clock::time_point time) const;

  const Clock::time_point begin_ = Clock::now();
  const std::chrono::system_clock::time_point begin_of_day_ = std::chrono::system_clock::now();
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;  // number n lies at n modulo the capacity
  uint64_t issued_ = 0;
  uint64_t completed_ = 0;
  uint64_t oldest_ = 1;  // the oldest unfinished number, or one more than the last
};

}  // namespace espalier
