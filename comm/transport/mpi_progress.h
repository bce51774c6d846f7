#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include <ATen/core/Tensor.h>

#include "comm/collectives/relay.h"
#include "comm/communicator.h"
#include "comm/transport/host_stage.h"
#include "comm/transport/mpi_world.h"

namespace espalier {

// What moves, and how.
struct MpiJob {
  at::Tensor tensor;                   // keeps the memory alive that `layout` names
  std::shared_ptr<HostStage> stage;    // when that is a stand-in, and
  std::shared_ptr<HostStages> stages;  // where it waits to bring its result back
  Schedule schedule;
  Layout layout;
  combine::Function combine = nullptr;
};

// What a caller of MpiCommunicator waits for.
class MpiOperation : public Work {
 public:
  // `waiters` counts the threads in wait(), for the progress thread to see.
  MpiOperation(CollectiveRecord record, MpiJob job, std::shared_ptr<std::atomic<int>> waiters);

  void wait() override { finish(/*blocks=*/true); }
  void order_stream() override { finish(/*blocks=*/false); }

 private:
  friend class MpiProgress;
  void finish(bool blocks);
  void complete(const std::exception_ptr& error);

  const CollectiveRecord record_;
  const MpiJob job_;
  std::shared_ptr<std::atomic<int>> waiters_;
  std::atomic<bool> done_ = false;
  std::exception_ptr error_;
};

// The thread that makes every MPI call, from the start of MPI to its end, and carries out one
// operation after another. When something fails, all operations fail with that error, and so do
// later ones.
class MpiProgress {
 public:
  // Returns when MPI runs; throws CommError when it cannot.
  MpiProgress(double timeout_s, const MpiOptions& options);
  ~MpiProgress();
  MpiProgress(const MpiProgress&) = delete;
  MpiProgress& operator=(const MpiProgress&) = delete;

  const MpiWorld& world() const { return *world_; }  // its topology and sizes; nothing that moves
  const std::shared_ptr<std::atomic<int>>& waiters() const { return waiters_; }

  void submit(std::shared_ptr<MpiOperation> operation);  // any thread
  void abort(const std::string& why);                    // any thread

 private:
  using Clock = std::chrono::steady_clock;

  void run(const MpiOptions& options);
  std::shared_ptr<MpiOperation> next_operation();
  void carry_out(MpiOperation& operation);
  void end_mpi();
  void check_abort();
  double idle_s() const;
  void pause() const;
  void fail(const std::exception_ptr& error);

  const double timeout_s_;
  const int exceptions_at_start_ = std::uncaught_exceptions();
  const std::shared_ptr<std::atomic<int>> waiters_ = std::make_shared<std::atomic<int>>(0);
  std::atomic<bool> is_aborted_ = false;

  std::mutex mutex_;  // guards the next five
  std::condition_variable wake_;
  std::deque<std::shared_ptr<MpiOperation>> queue_;
  std::exception_ptr error_;
  std::string abort_reason_;
  bool closing_ = false;

  // The progress thread's, once MPI runs.
  std::unique_ptr<MpiWorld> world_;
  std::shared_ptr<MpiOperation> current_;
  Clock::time_point last_progress_;
  bool has_core_ = false;  // as many cores as ranks, here

  std::promise<void> started_;
  std::thread thread_;
};

}  // namespace espalier
