#include "comm/transport/nccl_link.h"

#include <thread>
#include <utility>

#include "comm/errors.h"

namespace espalier {
namespace {

using Clock = std::chrono::steady_clock;

void check(cudaError_t code, const char* call) {
  if (code != cudaSuccess) throw CommError(std::string(call) + ": " + cudaGetErrorString(code));
}

void pause(Clock::time_point start) {
  if (Clock::now() - start < std::chrono::milliseconds(2)) {
    std::this_thread::yield();
  } else {
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
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

NcclLink::NcclLink(const ncclUniqueId& id, int rank, int size, double timeout_s)
    : rank_(rank), timeout_s_(timeout_s) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  guarded([&] {
    settle(ncclCommInitRankConfig(&comm_, size, id, rank, &config), "ncclCommInitRankConfig");
  });
}

NcclLink::~NcclLink() {
  try {
    const bool is_unwinding = std::uncaught_exceptions() > exceptions_at_start_;
    if (comm_ && !is_unwinding) {
      settle(ncclCommFinalize(comm_), "ncclCommFinalize");
      ncclCommDestroy(std::exchange(comm_, nullptr));
    }
  } catch (const std::exception&) {
    // Peers learn of it from their own deadlines, or from the end of this process.
  }
  abort();
}

void NcclLink::issue(const std::string& name, const std::function<ncclResult_t(ncclComm_t)>& call) {
  guarded([&] { settle(call(comm_), name); });
}

void NcclLink::wait(const std::string& name, const CudaEvent& end) {
  const auto start = Clock::now();
  for (bool has_ended = false; !has_ended;) {
    guarded([&] {
      has_ended = end.has_passed();
      if (has_ended) return;
      settle(ncclSuccess, name);
      check_deadline(start, name);
    });
    if (!has_ended) pause(start);
  }
}

void NcclLink::guarded(const std::function<void()>& body) {
  const std::lock_guard lock(mutex_);
  if (error_) std::rethrow_exception(error_);
  try {
    body();
  } catch (...) {
    error_ = std::current_exception();
    abort();
    throw;
  }
}

// Waits until NCCL has taken in its last call, and throws when that or an earlier one failed.
void NcclLink::settle(ncclResult_t result, const std::string& name) {
  const auto start = Clock::now();
  for (;;) {
    ncclResult_t state = ncclSuccess;
    if (result == ncclSuccess || result == ncclInProgress) {
      result = ncclCommGetAsyncError(comm_, &state);
    }
    if (result == ncclSuccess && state != ncclInProgress) result = state;
    if (result != ncclSuccess) {
      throw CommError(name + ": " + ncclGetErrorString(result) + ": " + ncclGetLastError(comm_));
    }
    if (state == ncclSuccess) return;
    check_deadline(start, name);
    pause(start);
  }
}

void NcclLink::check_deadline(Clock::time_point start, const std::string& name) const {
  if (std::chrono::duration<double>(Clock::now() - start).count() <= timeout_s_) return;
  throw Timeout(name, timeout_s_,
                "another rank is stopped, hung or took another path (seen by rank " +
                    std::to_string(rank_) + ")");
}

void NcclLink::abort() {
  if (comm_) ncclCommAbort(std::exchange(comm_, nullptr));
}

}  // namespace espalier
