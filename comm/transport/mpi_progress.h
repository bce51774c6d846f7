#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <ATen/core/Tensor.h>
#include <mpi.h>

#include "comm/communicator.h"

namespace espalier {

// One MPI call: a reduction, or without `op` a broadcast of bytes from `root`.
struct MpiPiece {
  std::byte* data;
  int count;
  MPI_Datatype type;
  std::optional<ReduceOp> op;
  int root;
};

// What a caller of MpiCommunicator waits for: pieces that leave in order.
class MpiOperation : public Work {
 public:
  // `waiters` counts the threads in wait(), for the progress thread to see.
  MpiOperation(std::string name, at::Tensor tensor, std::shared_ptr<std::atomic<int>> waiters);

  void wait() override;

  const std::string name;
  const at::Tensor tensor;  // keeps the memory alive
  std::vector<MpiPiece> pieces;

 private:
  friend class MpiProgress;
  void complete(const std::exception_ptr& error);

  size_t started_ = 0;  // pieces; these two are the progress thread's
  size_t finished_ = 0;
  std::shared_ptr<std::atomic<int>> waiters_;
  std::atomic<bool> done_ = false;
  std::exception_ptr error_;
};

// The thread that makes every MPI call, from the start of MPI to its end. When something fails, all
// operations fail with that error, and so do later ones.
class MpiProgress {
 public:
  explicit MpiProgress(double timeout_s);  // returns when MPI runs; throws CommError when it cannot
  ~MpiProgress();
  MpiProgress(const MpiProgress&) = delete;
  MpiProgress& operator=(const MpiProgress&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::shared_ptr<std::atomic<int>>& waiters() const { return waiters_; }

  void submit(std::shared_ptr<MpiOperation> operation);  // any thread

 private:
  void run();
  void start_mpi();
  void end_mpi();
  bool wait_for_work();
  bool advance();
  bool start_piece();
  void test_pieces();
  void pause() const;
  void fail(const std::exception_ptr& error);
  MPI_Op mpi_op(const MpiPiece& piece) const;

  const double timeout_s_;
  const int exceptions_at_start_ = std::uncaught_exceptions();
  const std::shared_ptr<std::atomic<int>> waiters_ = std::make_shared<std::atomic<int>>(0);
  std::atomic<bool> abandon_ = false;

  std::mutex mutex_;  // guards the next four
  std::condition_variable wake_;
  std::deque<std::shared_ptr<MpiOperation>> queue_;
  std::exception_ptr error_;
  bool closing_ = false;

  // The progress thread's, once MPI runs.
  MPI_Comm comm_ = MPI_COMM_NULL;
  MPI_Op bfloat16_ops_[3] = {MPI_OP_NULL, MPI_OP_NULL, MPI_OP_NULL};  // by ReduceOp
  bool owns_mpi_ = false;
  int rank_ = 0;
  int size_ = 1;
  std::shared_ptr<MpiOperation> current_;              // whose pieces are being started
  std::vector<MPI_Request> requests_;                  // in flight, oldest first
  std::vector<std::shared_ptr<MpiOperation>> owners_;  // of requests_
  std::vector<int> indices_;
  std::chrono::steady_clock::time_point last_progress_;

  std::promise<void> started_;
  std::thread thread_;
};

}  // namespace espalier
