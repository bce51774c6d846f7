#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <thread>
#include <utility>

namespace espalier {

// Makes items first, first+1, ... , end-1 on one background thread, at most `depth` ahead of the
// caller. An exception thrown by `make` is rethrown by the next() that would have returned its
// item, and by every later one. The destructor waits for the item being made.
template <class T>
class Prefetcher {
 public:
  Prefetcher(std::function<T(int64_t)> make, int64_t first, int64_t end, int depth = 2)
      : make_(std::move(make)), end_(end), next_(first), depth_(depth) {
    if (depth < 1) throw std::invalid_argument("Prefetcher: depth must be at least 1");
    thread_ = std::jthread([this, first](std::stop_token stop) { run(stop, first); });
  }
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // Blocks until the item is ready. Throws std::out_of_range after the last one.
  T next() {
    std::unique_lock lock(mutex_);
    if (next_ >= end_) throw std::out_of_range("Prefetcher: no items left");
    changed_.wait(lock, [this] { return !ready_.empty() || error_; });
    if (ready_.empty()) std::rethrow_exception(error_);
    T item = std::move(ready_.front());
    ready_.pop_front();
    ++next_;
    changed_.notify_all();
    return item;
  }

 private:
  void run(const std::stop_token& stop, int64_t first) {
    for (int64_t index = first; index < end_; ++index) {
      {
        std::unique_lock lock(mutex_);
        if (!changed_.wait(lock, stop, [this] { return std::ssize(ready_) < depth_; })) return;
      }
      try {
        T item = make_(index);
        std::lock_guard lock(mutex_);
        ready_.push_back(std::move(item));
      } catch (...) {  // thread entry: handed to the caller of next()
        std::lock_guard lock(mutex_);
        error_ = std::current_exception();
      }
      changed_.notify_all();
      if (error_) return;
    }
  }

  std::function<T(int64_t)> make_;
  const int64_t end_;
  int64_t next_;  // index of the item that next() returns
  const int depth_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<T> ready_;
  std::exception_ptr error_;
  std::jthread thread_;  // last: joins before the rest is gone
};

}  // namespace espalier
