#include "comm/transport/nccl_communicator.h"

#include <cstring>
#include <exception>
#include <functional>
#include <iomanip>
#include <sstream>
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
  NcclWork(std::shared_ptr<NcclLink> link, std::shared_ptr<NcclOperation> operation)
      : link_(std::move(link)), operation_(std::move(operation)) {}

  void wait() override { link_->wait(*operation_); }
  void order_stream() override { link_->order_stream(*operation_); }

 private:
  std::shared_ptr<NcclLink> link_;
  std::shared_ptr<NcclOperation> operation_;
};

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(std::shared_ptr<NcclLink> link, int rank, int size, int device,
                   const CommunicatorOptions& options)
      : Communicator(options, "nccl"),
        link_(std::move(link)),
        rank_(rank),
        size_(size),
        stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true,
                                             static_cast<c10::DeviceIndex>(device))) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string_view backend() const override { return "nccl"; }
  void abort(const std::string& why) override {
    link_->fail(std::make_exception_ptr(CommError(why)));
  }

 protected:
  void check_device(const at::Tensor& tensor) const override {
    TORCH_CHECK(tensor.device() == stream_.device(), "this rank communicates on ", stream_.device(),
                ", the tensor is on ", tensor.device());
  }

  std::shared_ptr<Work> do_all_reduce(const at::Tensor& tensor, ReduceOp op,
                                      CollectiveRecord record) override {
    return issue(std::move(record), {tensor}, [&](ncclComm_t comm) {
      void* const data = tensor.data_ptr();
      return ncclAllReduce(data, data, tensor.numel(), nccl_type(tensor.scalar_type()), nccl_op(op),
                           comm, stream_);
    });
  }

  std::shared_ptr<Work> do_broadcast(const at::Tensor& tensor, int root,
                                     CollectiveRecord record) override {
    return issue(std::move(record), {tensor}, [&](ncclComm_t comm) {
      void* const data = tensor.data_ptr();
      return ncclBroadcast(data, data, tensor.nbytes(), ncclUint8, root, comm, stream_);
    });
  }

  std::shared_ptr<Work> do_all_gather(const at::Tensor& input, const at::Tensor& output,
                                      CollectiveRecord record) override {
    return issue(std::move(record), {input, output}, [&](ncclComm_t comm) {
      return ncclAllGather(input.data_ptr(), output.data_ptr(), input.nbytes(), ncclUint8, comm,
                           stream_);
    });
  }

  void do_barrier(CollectiveRecord record) override {
    const auto options = at::TensorOptions().dtype(at::kInt).device(stream_.device());
    do_all_reduce(at::zeros({1}, options), ReduceOp::kSum, std::move(record))->wait();
  }

 private:
  // After what the current stream holds now, on the stream of this communicator.
  std::shared_ptr<Work> issue(CollectiveRecord record, const std::vector<at::Tensor>& tensors,
                              const std::function<ncclResult_t(ncclComm_t)>& call) {
    const c10::cuda::CUDAGuard guard(stream_.device());
    for (const at::Tensor& tensor : tensors) {
      tensor.record_stream(stream_);  // or the allocator may give its memory away too early
    }
    auto operation = link_->issue(std::move(record), stream_, [&](ncclComm_t comm) {
      CudaEvent(c10::cuda::getCurrentCUDAStream()).hold_back(stream_);
      return call(comm);
    });
    return std::make_shared<NcclWork>(link_, std::move(operation));
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

std::string gpu_identity(int device) {
  cudaDeviceProp properties{};
  char bus[32] = "";
  if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) return "";
  if (cudaDeviceGetPCIBusId(bus, sizeof(bus), device) != cudaSuccess) return "";
  std::ostringstream text;
  text << bus << "/GPU-" << std::hex << std::setfill('0');
  for (const char byte : properties.uuid.bytes) {  // parts of a divided GPU differ in it alone
    text << std::setw(2) << static_cast<int>(static_cast<unsigned char>(byte));
  }
  return text.str();
}

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& bootstrap, int device,
                                                     const CommunicatorOptions& options) {
  const int devices = c10::cuda::device_count();
  if (device < 0 || device >= devices) {
    throw CommError("NCCL on CUDA device " + std::to_string(device) + ": this machine has " +
                    std::to_string(devices) + " that can be used");
  }
  const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device));
  const int rank = bootstrap.rank();
  const int size = bootstrap.size();
  auto link = std::make_shared<NcclLink>(shared_id(bootstrap), rank, size, device, options);
  return std::make_unique<NcclCommunicator>(std::move(link), rank, size, device, options);
}

}  // namespace espalier
