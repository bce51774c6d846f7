#include "comm/transport/mpi_communicator.h"

#include <algorithm>
#include <string>
#include <utility>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "comm/transport/mpi_progress.h"

namespace espalier {
namespace {

MPI_Datatype mpi_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return MPI_FLOAT;
    case at::kDouble:
      return MPI_DOUBLE;
    case at::kBFloat16:
      return MPI_UINT16_T;
    case at::kInt:
      return MPI_INT32_T;
    case at::kLong:
      return MPI_INT64_T;
    default:
      return MPI_UINT8_T;  // check_all_reduce() lets nothing else through
  }
}

class MpiCommunicator : public Communicator {
 public:
  explicit MpiCommunicator(const MpiOptions& options)
      : piece_bytes_(options.piece_bytes), progress_(options.timeout_s) {}

  int rank() const override { return progress_.rank(); }
  int size() const override { return progress_.size(); }
  std::string_view backend() const override { return "mpi"; }

  std::shared_ptr<Work> all_reduce(const at::Tensor& tensor, ReduceOp op) override {
    check_all_reduce(tensor);
    const auto operation = prepare(describe("all_reduce", tensor, name_of(op)), tensor);
    add_reductions(*operation, tensor, op);
    progress_.submit(operation);
    return operation;
  }

  std::shared_ptr<Work> broadcast(const at::Tensor& tensor, int root) override {
    check_broadcast(tensor, root, size());
    const auto operation =
        prepare(describe("broadcast", tensor, "root " + std::to_string(root)), tensor);
    add_broadcasts(*operation, tensor, root);
    progress_.submit(operation);
    return operation;
  }

  // One broadcast per rank: as many bytes as an all-gather, and its result needs no unpacking.
  std::shared_ptr<Work> all_gather(const at::Tensor& input, const at::Tensor& output) override {
    check_all_gather(input, output, size());
    const auto operation = prepare(describe("all_gather", input), output);
    const at::NoGradGuard no_grad;
    output.select(0, rank()).copy_(input);
    for (int root = 0; root < size(); ++root) {
      add_broadcasts(*operation, output.select(0, root), root);
    }
    progress_.submit(operation);
    return operation;
  }

  void barrier() override {
    const at::Tensor token = at::zeros({1}, at::kInt);
    const auto operation = prepare("barrier", token);
    add_reductions(*operation, token, ReduceOp::kSum);
    progress_.submit(operation);
    operation->wait();
  }

 private:
  std::shared_ptr<MpiOperation> prepare(std::string name, const at::Tensor& tensor) const {
    TORCH_CHECK(tensor.device().is_cpu(), "MPI moves tensors in host memory, got one on ",
                tensor.device());
    return std::make_shared<MpiOperation>(std::move(name), tensor, progress_.waiters());
  }

  void add_reductions(MpiOperation& operation, const at::Tensor& tensor, ReduceOp op) const {
    const auto element_bytes = static_cast<int64_t>(tensor.element_size());
    const int64_t step = std::max<int64_t>(piece_bytes_ / element_bytes, 1);
    auto* data = static_cast<std::byte*>(tensor.data_ptr());
    for (int64_t begin = 0; begin < tensor.numel(); begin += step) {
      const int64_t count = std::min(step, tensor.numel() - begin);
      operation.pieces.push_back({data + begin * element_bytes, static_cast<int>(count),
                                  mpi_type(tensor.scalar_type()), op, /*root=*/0});
    }
  }

  void add_broadcasts(MpiOperation& operation, const at::Tensor& tensor, int root) const {
    const auto bytes = static_cast<int64_t>(tensor.nbytes());
    auto* data = static_cast<std::byte*>(tensor.data_ptr());
    for (int64_t begin = 0; begin < bytes; begin += piece_bytes_) {
      const int64_t count = std::min(piece_bytes_, bytes - begin);
      operation.pieces.push_back(
          {data + begin, static_cast<int>(count), MPI_BYTE, std::nullopt, root});
    }
  }

  const int64_t piece_bytes_;
  MpiProgress progress_;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(const MpiOptions& options) {
  TORCH_CHECK(options.timeout_s > 0, "timeout_s must be positive, got ", options.timeout_s);
  TORCH_CHECK(options.piece_bytes > 0 && options.piece_bytes <= (1 << 30),
              "piece_bytes must be between 1 and 2^30, got ", options.piece_bytes);
  return std::make_unique<MpiCommunicator>(options);
}

}  // namespace espalier
