#include "comm/transport/thread_communicator.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <limits>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "comm/errors.h"

namespace espalier {
namespace {

// What every rank brings to one operation; `execute` sees the tensors of all ranks, by rank.
using Execute = std::function<void(const std::vector<at::Tensor>& tensors)>;

// The place where all ranks meet for their n-th operation.
struct Meeting {
  std::string operation;
  std::vector<at::Tensor> tensors;
  std::vector<CollectiveRecord> records;  // of those who have come
  int arrived = 0;
  bool done = false;
  std::exception_ptr error;
};

class World {
 public:
  World(int size, double timeout_s)
      : size_(size), timeout_s_(timeout_s), issued_(size, 0), left_after_(size, kStays) {}

  int size() const { return size_; }

  std::shared_ptr<Meeting> join(int rank, const CollectiveRecord& record, const at::Tensor& tensor,
                                const Execute& execute) {
    const std::string operation = record.describe();
    const std::lock_guard lock(mutex_);
    const int64_t number = issued_[rank]++;
    auto& slot = open_[number];
    if (!slot) {
      slot = std::make_shared<Meeting>();
      slot->operation = operation;
      slot->tensors.resize(size_);
      fail_if_someone_left(*slot, number);
      slot->done = broken_ != nullptr;
      slot->error = broken_;
    }
    std::shared_ptr<Meeting> meeting = slot;
    if (operation != meeting->operation) {
      fail(ProtocolError("rank " + std::to_string(rank) + " issued " + operation +
                         " where another rank issued " + meeting->operation));
    }
    meeting->tensors[rank] = tensor;
    meeting->records.push_back(record);
    record.start();
    if (++meeting->arrived == size_) {
      if (!meeting->done) finish(*meeting, execute);
      open_.erase(number);
    }
    changed_.notify_all();
    return meeting;
  }

  void wait(Meeting& meeting, const CollectiveRecord& record) {
    std::unique_lock lock(mutex_);
    const auto limit = std::chrono::duration<double>(timeout_s_);
    if (!changed_.wait_for(lock, limit, [&] { return meeting.done; })) {
      fail(record.timeout(timeout_s_, missing_ranks(meeting)));
    }
    if (meeting.error) std::rethrow_exception(meeting.error);
  }

  void abort(const std::string& why) {
    const std::lock_guard lock(mutex_);
    fail(CommError(why));
  }

  void leave(int rank) {
    const std::lock_guard lock(mutex_);
    left_after_[rank] = issued_[rank];
    for (const auto& [number, meeting] : open_) fail_if_someone_left(*meeting, number);
  }

 private:
  static constexpr int64_t kStays = std::numeric_limits<int64_t>::max();

  void finish(Meeting& meeting, const Execute& execute) {
    try {
      const at::NoGradGuard no_grad;
      execute(meeting.tensors);
      for (const CollectiveRecord& record : meeting.records) record.end();
    } catch (...) {
      meeting.error = std::current_exception();
    }
    meeting.done = true;
  }

  // One failure ends the whole world, as it does with real transports.
  template <class Error>
  void fail(const Error& error) {
    if (broken_) return;
    broken_ = std::make_exception_ptr(error);
    for (const auto& [number, meeting] : open_) {
      if (!meeting->done) meeting->error = broken_;
      meeting->done = true;
    }
    changed_.notify_all();
  }

  void fail_if_someone_left(const Meeting& meeting, int64_t number) {
    for (int rank = 0; rank < size_; ++rank) {
      if (number >= left_after_[rank]) fail(PeerLost(rank, meeting.operation));
    }
  }

  std::string missing_ranks(const Meeting& meeting) const {
    std::ostringstream text;
    text << "missing ranks";
    for (int rank = 0; rank < size_; ++rank) {
      if (!meeting.tensors[rank].defined()) text << ' ' << rank;
    }
    return text.str();
  }

  const int size_;
  const double timeout_s_;
  std::exception_ptr broken_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int64_t, std::shared_ptr<Meeting>> open_;
  std::vector<int64_t> issued_;      // operations, by rank
  std::vector<int64_t> left_after_;  // the number of operations a rank that left had issued
};

class ThreadWork : public Work {
 public:
  ThreadWork(std::shared_ptr<World> world, std::shared_ptr<Meeting> meeting,
             CollectiveRecord record)
      : world_(std::move(world)), meeting_(std::move(meeting)), record_(std::move(record)) {}

  void wait() override { world_->wait(*meeting_, record_); }

 private:
  std::shared_ptr<World> world_;
  std::shared_ptr<Meeting> meeting_;
  CollectiveRecord record_;
};

// In the order of ranks, and bfloat16 in float: rounded once.
void reduce(const std::vector<at::Tensor>& tensors, ReduceOp op) {
  const auto type =
      tensors[0].scalar_type() == at::kBFloat16 ? at::kFloat : tensors[0].scalar_type();
  at::Tensor total = tensors[0].to(type, /*non_blocking=*/false, /*copy=*/true);
  for (size_t rank = 1; rank < tensors.size(); ++rank) {
    const at::Tensor part = tensors[rank].to(type);
    if (op == ReduceOp::kSum) total.add_(part);
    if (op == ReduceOp::kMax) total = at::maximum(total, part);
    if (op == ReduceOp::kMin) total = at::minimum(total, part);
  }
  for (const at::Tensor& tensor : tensors) tensor.copy_(total);
}

class ThreadCommunicator : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<World> world, int rank, const CommunicatorOptions& options)
      : Communicator(options), world_(std::move(world)), rank_(rank) {}
  ~ThreadCommunicator() override { world_->leave(rank_); }

  int rank() const override { return rank_; }
  int size() const override { return world_->size(); }
  std::string_view backend() const override { return "threads"; }
  void abort(const std::string& why) override { world_->abort(why); }

 protected:
  std::shared_ptr<Work> do_all_reduce(const at::Tensor& tensor, ReduceOp op,
                                      CollectiveRecord record) override {
    return issue(std::move(record), tensor,
                 [op](const std::vector<at::Tensor>& tensors) { reduce(tensors, op); });
  }

  std::shared_ptr<Work> do_broadcast(const at::Tensor& tensor, int root,
                                     CollectiveRecord record) override {
    return issue(std::move(record), tensor, [root](const std::vector<at::Tensor>& tensors) {
      for (const at::Tensor& other : tensors) other.copy_(tensors[root]);
    });
  }

  std::shared_ptr<Work> do_all_gather(const at::Tensor& input, const at::Tensor& output,
                                      CollectiveRecord record) override {
    const at::NoGradGuard no_grad;
    output.select(0, rank_).copy_(input);
    return issue(std::move(record), output, [](const std::vector<at::Tensor>& outputs) {
      const auto ranks = static_cast<int64_t>(outputs.size());
      for (int64_t from = 0; from < ranks; ++from) {
        const at::Tensor part = outputs[from].select(0, from);
        for (int64_t to = 0; to < ranks; ++to) {
          if (to != from) outputs[to].select(0, from).copy_(part);
        }
      }
    });
  }

  void do_barrier(CollectiveRecord record) override {
    issue(std::move(record), at::zeros({1}), [](const auto&) {})->wait();
  }

 private:
  std::shared_ptr<Work> issue(CollectiveRecord record, const at::Tensor& tensor,
                              const Execute& execute) {
    auto meeting = world_->join(rank_, record, tensor, execute);
    return std::make_shared<ThreadWork>(world_, std::move(meeting), std::move(record));
  }

  std::shared_ptr<World> world_;
  int rank_;
};

bool is_echo(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const PeerLost&) {
    return true;
  } catch (...) {
    return false;
  }
}

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_thread_communicators(
    int size, const CommunicatorOptions& options) {
  TORCH_CHECK(size >= 1, "a world has at least one rank, got ", size);
  const auto world = std::make_shared<World>(size, options.timeout_s);
  std::vector<std::unique_ptr<Communicator>> communicators;
  communicators.reserve(size);
  for (int rank = 0; rank < size; ++rank) {
    communicators.push_back(std::make_unique<ThreadCommunicator>(world, rank, options));
  }
  return communicators;
}

void run_ranks(int size, const std::function<void(Communicator&)>& body, double timeout_s) {
  auto communicators = make_thread_communicators(size, {.timeout_s = timeout_s});
  std::vector<std::exception_ptr> errors(size);
  std::vector<std::thread> threads;
  threads.reserve(size);
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        body(*communicators[rank]);
      } catch (...) {
        errors[rank] = std::current_exception();
      }
      communicators[rank].reset();
    });
  }
  for (auto& thread : threads) thread.join();
  std::erase(errors, nullptr);
  const auto cause = std::find_if_not(errors.begin(), errors.end(), is_echo);
  if (cause != errors.end()) std::rethrow_exception(*cause);
  if (!errors.empty()) std::rethrow_exception(errors.front());
}

}  // namespace espalier
