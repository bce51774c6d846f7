#include "comm/transport/nccl_communicator.h"

#include <cstring>
#include <exception>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Functions.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>

#include "comm/errors.h"
#include "comm/transport/nccl_link.h"

namespace espalier {
namespace {

ncclDataType_t nccl_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return ncclFloat32;
    case at::kDouble:
      return ncclFloat64;
    case at::kBFloat16:
      return ncclBfloat16;
    case at::kInt:
      return ncclInt32;
    case at::kLong:
      return ncclInt64;
    default:
      return ncclUint8;  // check_all_reduce() lets nothing else through
  }
}

ncclRedOp_t nccl_op(ReduceOp op) {
  return op == ReduceOp::kSum ? ncclSum : op == ReduceOp::kMax ? ncclMax : ncclMin;
}

class NcclWork : public Work {
 public:
  NcclWork(std::shared_ptr<NcclLink> link, std::string name, const c10::cuda::CUDAStream& stream)
      : link_(std::move(link)), name_(std::move(name)), end_(stream) {}

  void wait() override {
    if (error_) std::rethrow_exception(error_);
    try {
      link_->wait(name_, end_);
    } catch (...) {
      error_ = std::current_exception();
      throw;
    }
  }

 private:
  std::shared_ptr<NcclLink> link_;
  std::string name_;
  CudaEvent end_;
  std::exception_ptr error_;
};

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(std::shared_ptr<NcclLink> link, int rank, int size, int device)
      : link_(std::move(link)),
        rank_(rank),
        size_(size),
        stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true,
                                             static_cast<c10::DeviceIndex>(device))) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string_view backend() const override { return "nccl"; }

  std::shared_ptr<Work> all_reduce(const at::Tensor& tensor, ReduceOp op) override {
    check_all_reduce(tensor);
    return issue(describe("all_reduce", tensor, name_of(op)), {tensor}, [&](ncclComm_t comm) {
      void* const data = tensor.data_ptr();
      return ncclAllReduce(data, data, tensor.numel(), nccl_type(tensor.scalar_type()), nccl_op(op),
                           comm, stream_);
    });
  }

  std::shared_ptr<Work> broadcast(const at::Tensor& tensor, int root) override {
    check_broadcast(tensor, root, size_);
    const auto name = describe("broadcast", tensor, "root " + std::to_string(root));
    return issue(name, {tensor}, [&](ncclComm_t comm) {
      void* const data = tensor.data_ptr();
      return ncclBroadcast(data, data, tensor.nbytes(), ncclUint8, root, comm, stream_);
    });
  }

  std::shared_ptr<Work> all_gather(const at::Tensor& input, const at::Tensor& output) override {
    check_all_gather(input, output, size_);
    return issue(describe("all_gather", input), {input, output}, [&](ncclComm_t comm) {
      return ncclAllGather(input.data_ptr(), output.data_ptr(), input.nbytes(), ncclUint8, comm,
                           stream_);
    });
  }

  void barrier() override {
    const c10::Device device = stream_.device();
    all_reduce(at::zeros({1}, at::TensorOptions().dtype(at::kInt).device(device)), ReduceOp::kSum)
        ->wait();
  }

 private:
  // After what the current stream holds now, on the stream of this communicator.
  std::shared_ptr<Work> issue(const std::string& name, const std::vector<at::Tensor>& tensors,
                              const std::function<ncclResult_t(ncclComm_t)>& call) {
    const c10::cuda::CUDAGuard guard(stream_.device());
    for (const at::Tensor& tensor : tensors) {
      TORCH_CHECK(tensor.device() == stream_.device(), name, ": this rank communicates on ",
                  stream_.device(), ", the tensor is on ", tensor.device());
      tensor.record_stream(stream_);  // or the allocator may give its memory away too early
    }
    CudaEvent(c10::cuda::getCurrentCUDAStream()).hold_back(stream_);
    link_->issue(name, call);
    return std::make_shared<NcclWork>(link_, name, stream_);
  }

  std::shared_ptr<NcclLink> link_;
  const int rank_;
  const int size_;
  const c10::cuda::CUDAStream stream_;
};

// Rank 0 makes the id that joins the ranks.
ncclUniqueId shared_id(Communicator& bootstrap) {
  ncclUniqueId id{};
  ncclResult_t made = ncclSuccess;
  if (bootstrap.rank() == 0) made = ncclGetUniqueId(&id);
  const at::Tensor bytes = at::empty({static_cast<int64_t>(sizeof(id))}, at::kByte);
  std::memcpy(bytes.data_ptr(), &id, sizeof(id));
  bootstrap.broadcast(bytes, /*root=*/0)->wait();
  std::memcpy(&id, bytes.data_ptr(), sizeof(id));
  if (made != ncclSuccess) {
    throw CommError(std::string("ncclGetUniqueId: ") + ncclGetErrorString(made));
  }
  return id;
}

}  // namespace

std::string nccl_version() {
  int version = 0;
  ncclGetVersion(&version);  // 22809 is 2.28.9
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

bool nccl_is_available() { return c10::cuda::device_count() > 0; }

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& bootstrap, int device,
                                                     double timeout_s) {
  const int devices = c10::cuda::device_count();
  if (device < 0 || device >= devices) {
    throw CommError("NCCL on CUDA device " + std::to_string(device) + ": this machine has " +
                    std::to_string(devices) + " that can be used");
  }
  const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device));
  const int rank = bootstrap.rank();
  const int size = bootstrap.size();
  auto link = std::make_shared<NcclLink>(shared_id(bootstrap), rank, size, timeout_s);
  return std::make_unique<NcclCommunicator>(std::move(link), rank, size, device);
}

}  // namespace espalier
