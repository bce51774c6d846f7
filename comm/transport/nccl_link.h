#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <nccl.h>

#include "comm/communicator.h"

namespace espalier {

// Marks the point that a stream has reached in what was given to it.
class CudaEvent {
 public:
  explicit CudaEvent(const c10::cuda::CUDAStream& stream);
  ~CudaEvent();
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  bool has_passed() const;
  void hold_back(const c10::cuda::CUDAStream& stream) const;

 private:
  cudaEvent_t event_ = nullptr;
};

// An operation that was given to NCCL.
struct NcclOperation {
  explicit NcclOperation(CollectiveRecord its_record) : record(std::move(its_record)) {}

  CollectiveRecord record;
  std::optional<CudaEvent> end;  // empty when NCCL did not take it
};

// A non-blocking NCCL communicator and the thread that watches it.
//
// No call blocks for longer than a deadline. The watching thread sees operations end, which it
// reports to their records, and failures: an asynchronous error of NCCL, or no end for `timeout_s`,
// be it for a peer or for a kernel of this process that hangs before a collective. A failure aborts
// the communicator, which ends its kernels, and is thrown by everything that comes later.
//
// ncclCommAbort may hang itself. It runs in a thread of its own, and when it, or the rest of the
// process, has not noticed the failure within `abort_grace_s`, the process ends with a message.
class NcclLink {
 public:
  NcclLink(const ncclUniqueId& id, int rank, int size, int device,
           const CommunicatorOptions& options);
  ~NcclLink();
  NcclLink(const NcclLink&) = delete;
  NcclLink& operator=(const NcclLink&) = delete;

  // Makes `call`, which enqueues an operation on `stream`, and waits until NCCL has taken it in. A
  // failure is kept for those who wait.
  std::shared_ptr<NcclOperation> issue(CollectiveRecord record, const c10::cuda::CUDAStream& stream,
                                       const std::function<ncclResult_t(ncclComm_t)>& call);

  void wait(const NcclOperation& operation);          // blocks the host until its end
  void order_stream(const NcclOperation& operation);  // the current stream waits for it

  void fail(const std::exception_ptr& error);  // any thread; the first one counts

 private:
  using Clock = std::chrono::steady_clock;

  void settle(ncclResult_t result, const std::string& name,
              const CollectiveRecord* record = nullptr);
  void watch();
  bool has_front_ended();
  void check_front();
  void throw_if_failed();
  void end_failed();
  void close();
  void within_grace(const char* what, const std::function<void()>& body) const;

  const int rank_;
  const int device_;
  const CommunicatorOptions options_;
  const int exceptions_at_start_ = std::uncaught_exceptions();

  std::mutex nccl_mutex_;  // NCCL lets one thread at a time into a communicator
  ncclComm_t comm_ = nullptr;

  std::mutex mutex_;  // guards the next six
  std::condition_variable changed_;
  std::deque<std::shared_ptr<NcclOperation>> pending_;
  Clock::time_point last_progress_;
  std::exception_ptr error_;
  bool is_error_known_ = false;  // somebody outside has been told
  bool closing_ = false;
  std::atomic<bool> has_failed_ = false;  // error_ is set

  std::thread thread_;
};

}  // namespace espalier
