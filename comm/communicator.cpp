#include "comm/communicator.h"

#include <sstream>

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

}  // namespace

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

std::string describe(std::string_view operation, const at::Tensor& tensor,
                     std::string_view argument) {
  std::ostringstream text;
  text << operation << '(' << tensor.scalar_type() << tensor.sizes();
  if (!argument.empty()) text << ", " << argument;
  text << ')';
  return text.str();
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
