#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <mutex>
#include <string>

#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <nccl.h>

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

// A non-blocking NCCL communicator: no call blocks, so that every wait has a deadline and can
// abort. After a failure every call throws the error of the first.
class NcclLink {
 public:
  NcclLink(const ncclUniqueId& id, int rank, int size, double timeout_s);
  ~NcclLink();
  NcclLink(const NcclLink&) = delete;
  NcclLink& operator=(const NcclLink&) = delete;

  // Makes `call`, which enqueues an operation, and waits until NCCL has taken it in.
  void issue(const std::string& name, const std::function<ncclResult_t(ncclComm_t)>& call);

  // Blocks the host until `end`, the end of the operation, has passed.
  void wait(const std::string& name, const CudaEvent& end);

 private:
  void guarded(const std::function<void()>& body);
  void settle(ncclResult_t result, const std::string& name);
  void check_deadline(std::chrono::steady_clock::time_point start, const std::string& name) const;
  void abort();

  const int rank_;
  const double timeout_s_;
  const int exceptions_at_start_ = std::uncaught_exceptions();
  std::mutex mutex_;  // NCCL lets one thread at a time into a communicator
  ncclComm_t comm_ = nullptr;
  std::exception_ptr error_;
};

}  // namespace espalier
