#include "comm/transport/nccl_link.h"

#include <unistd.h>

#include <cstdio>

#include <c10/cuda/CUDAGuard.h>

#include "comm/errors.h"

namespace espalier {
namespace {

// EX_SOFTWARE, which a coordinator takes for a failure worth another launch.
constexpr int kExitAfterFailure = 70;
// How often the watching thread looks: an end is recorded so much late.
constexpr auto kWatchPeriod = std::chrono::milliseconds(5);

void check(cudaError_t code, const char* call) {
  if (code != cudaSuccess) throw CommError(std::string(call) + ": " + cudaGetErrorString(code));
}

void pause(std::chrono::steady_clock::time_point start) {
  if (std::chrono::steady_clock::now() - start < std::chrono::milliseconds(2)) {
    std::this_thread::yield();
  } else {
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

std::chrono::duration<double> seconds(double count) { return std::chrono::duration<double>(count); }

// Without destructors: one of them would wait for what hangs.
[[noreturn]] void end_process(int rank, const std::string& why) {
  std::fprintf(stderr, "rank %d: %s; this process ends\n", rank, why.c_str());
  std::fflush(stderr);
  _exit(kExitAfterFailure);
}

}  // namespace

CudaEvent::CudaEvent(const c10::cuda::CUDAStream& stream) {
  check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  check(cudaEventRecord(event_, stream), "cudaEventRecord");
}

CudaEvent::~CudaEvent() { cudaEventDestroy(event_); }

bool CudaEvent::has_passed() const {
  const cudaError_t code = cudaEventQuery(event_);
  if (code == cudaErrorNotReady) return false;
  check(code, "cudaEventQuery");
  return true;
}

void CudaEvent::hold_back(const c10::cuda::CUDAStream& stream) const {
  check(cudaStreamWaitEvent(stream, event_, 0), "cudaStreamWaitEvent");
}

NcclLink::NcclLink(const ncclUniqueId& id, int rank, int size, int device,
                   const CommunicatorOptions& options)
    : rank_(rank), device_(device), options_(options) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  try {
    settle(ncclCommInitRankConfig(&comm_, size, id, rank, &config), "ncclCommInitRankConfig");
  } catch (...) {
    end_failed();
    throw;
  }
  thread_ = std::thread([this] { watch(); });
}

NcclLink::~NcclLink() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    is_error_known_ = true;
  }
  changed_.notify_all();
  thread_.join();
  try {
    close();
  } catch (const std::exception&) {
    // Peers learn of it from their own deadlines, or from the end of this process.
    end_failed();
  }
}

// After a failure, or when an exception leaves, peers may never come to what is under way.
void NcclLink::close() {
  if (!comm_) return;
  if (has_failed_ || std::uncaught_exceptions() > exceptions_at_start_) return end_failed();
  settle(ncclCommFinalize(comm_), "ncclCommFinalize");
  within_grace("ncclCommDestroy", [this] { ncclCommDestroy(std::exchange(comm_, nullptr)); });
}

std::shared_ptr<NcclOperation> NcclLink::issue(
    CollectiveRecord record, const c10::cuda::CUDAStream& stream,
    const std::function<ncclResult_t(ncclComm_t)>& call) {
  auto operation = std::make_shared<NcclOperation>(std::move(record));
  if (has_failed_) return operation;
  try {
    {
      const std::lock_guard lock(nccl_mutex_);
      settle(call(comm_), operation->record.describe(), &operation->record);
    }
    // Not earlier: NCCL may give its kernel to the stream in a thread of its own.
    operation->end.emplace(stream);
    operation->record.start();
  } catch (...) {
    fail(std::current_exception());
    return operation;
  }
  {
    const std::lock_guard lock(mutex_);
    if (pending_.empty()) last_progress_ = Clock::now();
    pending_.push_back(operation);
  }
  changed_.notify_all();
  return operation;
}

// The watching thread finds what goes wrong meanwhile.
void NcclLink::wait(const NcclOperation& operation) {
  for (const auto start = Clock::now();;) {
    throw_if_failed();
    if (operation.end->has_passed()) break;
    pause(start);
  }
  throw_if_failed();  // an abort lets events pass too
}

void NcclLink::order_stream(const NcclOperation& operation) {
  throw_if_failed();
  operation.end->hold_back(c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device_)));
}

void NcclLink::fail(const std::exception_ptr& error) {
  {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = error;
    has_failed_ = true;
  }
  changed_.notify_all();
}

void NcclLink::throw_if_failed() {
  if (!has_failed_) return;
  std::exception_ptr error;
  {
    const std::lock_guard lock(mutex_);
    is_error_known_ = true;
    error = error_;
  }
  changed_.notify_all();
  std::rethrow_exception(error);
}

// Waits until NCCL has taken in its last call, and throws when that or an earlier one failed.
void NcclLink::settle(ncclResult_t result, const std::string& name,
                      const CollectiveRecord* record) {
  for (const auto start = Clock::now();; pause(start)) {
    ncclResult_t state = ncclSuccess;
    if (result == ncclSuccess || result == ncclInProgress) {
      result = ncclCommGetAsyncError(comm_, &state);
    }
    if (result == ncclSuccess && state != ncclInProgress) result = state;
    if (result != ncclSuccess) {
      throw CommError(name + ": " + ncclGetErrorString(result) + ": " + ncclGetLastError(comm_));
    }
    if (state == ncclSuccess) return;
    if (has_failed_) throw CommError(name + ": given up after an earlier failure");
    if (Clock::now() - start > seconds(options_.timeout_s)) {
      const char* const detail = "NCCL does not take it in, another rank may be stopped or hung";
      throw record ? record->timeout(options_.timeout_s, detail)
                   : Timeout(name, options_.timeout_s, detail);
    }
  }
}

void NcclLink::watch() {
  const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device_));
  while (!has_failed_) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return closing_ || has_failed_ || !pending_.empty(); });
      if (closing_) return;
    }
    try {
      while (has_front_ended()) continue;
      check_front();
    } catch (...) {
      fail(std::current_exception());
    }
    if (!has_failed_) std::this_thread::sleep_for(kWatchPeriod);
  }
  end_failed();
  std::unique_lock lock(mutex_);
  const bool is_known =
      changed_.wait_for(lock, seconds(options_.abort_grace_s), [&] { return is_error_known_; });
  if (!is_known) {
    try {
      std::rethrow_exception(error_);
    } catch (const std::exception& error) {
      end_process(rank_, error.what());
    }
  }
}

bool NcclLink::has_front_ended() {
  std::shared_ptr<NcclOperation> front;
  {
    const std::lock_guard lock(mutex_);
    if (pending_.empty()) return false;
    front = pending_.front();
  }
  if (!front->end->has_passed()) return false;
  front->record.end();
  const std::lock_guard lock(mutex_);
  pending_.pop_front();
  last_progress_ = Clock::now();
  return true;
}

void NcclLink::check_front() {
  {
    // Who is inside NCCL sees its errors himself.
    const std::unique_lock lock(nccl_mutex_, std::try_to_lock);
    ncclResult_t state = ncclSuccess;
    if (lock) ncclCommGetAsyncError(comm_, &state);
    if (state != ncclSuccess && state != ncclInProgress) {
      throw CommError(std::string("NCCL: ") + ncclGetErrorString(state) + ": " +
                      ncclGetLastError(comm_));
    }
  }
  std::shared_ptr<NcclOperation> front;
  {
    const std::lock_guard lock(mutex_);
    if (pending_.empty() || Clock::now() - last_progress_ <= seconds(options_.timeout_s)) return;
    front = pending_.front();
  }
  throw front->record.timeout(options_.timeout_s,
                              "another rank is stopped, hung or took another path, or a kernel "
                              "before it hangs (seen by rank " +
                                  std::to_string(rank_) + ")");
}

// Ends the kernels that wait for peers. Peers see it as an error, or at their own deadlines.
void NcclLink::end_failed() {
  within_grace("ncclCommAbort", [this] {
    const std::lock_guard lock(nccl_mutex_);
    if (comm_) ncclCommAbort(std::exchange(comm_, nullptr));
  });
}

// The thread that runs `body` is left to hang when it does: so is the process, but for its end.
void NcclLink::within_grace(const char* what, const std::function<void()>& body) const {
  std::mutex mutex;
  std::condition_variable changed;
  bool is_done = false;
  std::thread helper([&] {
    const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device_));
    body();
    const std::lock_guard lock(mutex);
    is_done = true;
    changed.notify_all();
  });
  {
    std::unique_lock lock(mutex);
    if (!changed.wait_for(lock, seconds(options_.abort_grace_s), [&] { return is_done; })) {
      end_process(rank_, std::string(what) + " has not come back for " +
                             std::to_string(options_.abort_grace_s) + " s");
    }
  }
  helper.join();
}

}  // namespace espalier
