#include "comm/communicator.h"

#include <utility>

namespace espalier {
namespace {

bool is_reducible(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
    case at::kDouble:
    case at::kBFloat16:
    case at::kInt:
    case at::kLong:
    case at::kByte:
      return true;
    default:
      return false;
  }
}

void check_contiguous(const char* operation, const at::Tensor& tensor) {
  TORCH_CHECK(tensor.defined(), operation, ": the tensor is undefined");
  TORCH_CHECK(tensor.is_contiguous(), operation,
              " works in place on contiguous tensors, got sizes ", tensor.sizes(), " with strides ",
              tensor.strides());
}

void check_all_reduce(const at::Tensor& tensor) {
  check_contiguous("all_reduce", tensor);
  TORCH_CHECK(is_reducible(tensor.scalar_type()),
              "all_reduce takes float, double, bfloat16, int32, int64 or uint8, got ",
              tensor.scalar_type());
}

void check_broadcast(const at::Tensor& tensor, int root, int size) {
  check_contiguous("broadcast", tensor);
  TORCH_CHECK(root >= 0 && root < size, "broadcast from rank ", root, " of ", size);
}

void check_all_gather(const at::Tensor& input, const at::Tensor& output, int size) {
  check_contiguous("all_gather", input);
  check_contiguous("all_gather", output);
  auto expected = input.sizes().vec();
  expected.insert(expected.begin(), size);
  TORCH_CHECK(output.sizes() == at::IntArrayRef(expected), "all_gather needs an output of sizes ",
              at::IntArrayRef(expected), ", got ", output.sizes());
  TORCH_CHECK(input.scalar_type() == output.scalar_type() && input.device() == output.device(),
              "all_gather needs input and output of one type on one device");
}

}  // namespace

Communicator::Communicator(const CommunicatorOptions& options, std::string group)
    : recording_{options.watch ? options.watch : std::make_shared<CollectiveWatch>(),
                 std::move(group), options.dump_directory} {}

std::shared_ptr<Work> Communicator::all_reduce(const at::Tensor& tensor, ReduceOp op) {
  check_all_reduce(tensor);
  check_device(tensor);
  return do_all_reduce(tensor, op, record({"all_reduce", tensor, name_of(op).data()}));
}

std::shared_ptr<Work> Communicator::broadcast(const at::Tensor& tensor, int root) {
  check_broadcast(tensor, root, size());
  check_device(tensor);
  CollectiveCall call("broadcast", tensor);
  call.root = root;
  return do_broadcast(tensor, root, record(call));
}

std::shared_ptr<Work> Communicator::all_gather(const at::Tensor& input, const at::Tensor& output) {
  check_all_gather(input, output, size());
  check_device(output);
  return do_all_gather(input, output, record({"all_gather", input}));
}

void Communicator::barrier() {
  CollectiveCall call;
  call.name = "barrier";
  do_barrier(record(call));
}

std::string_view name_of(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return "sum";
    case ReduceOp::kMax:
      return "max";
    case ReduceOp::kMin:
      return "min";
  }
  return "";
}

}  // namespace espalier
