#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>

#include "comm/work.h"

namespace espalier {

enum class ReduceOp { kSum, kMax, kMin };

// A fixed group of ranks that exchange tensors.
//
// Every rank issues the same operations, with the same shapes and types, in the same order: that
// order, and nothing else, pairs them. Operations work in place on contiguous tensors, run
// asynchronously, and finish in the order of their issue. A result has the same bits on every rank,
// and the same bits in every run with as many ranks.
//
// One thread at a time may issue operations; any thread may wait. Failures surface at Work::wait().
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string_view backend() const = 0;  // "single", "threads", "mpi", "nccl"

  // float, double, bfloat16, int32, int64, uint8. bfloat16 adds in float and rounds at every hop.
  virtual std::shared_ptr<Work> all_reduce(const at::Tensor& tensor,
                                           ReduceOp op = ReduceOp::kSum) = 0;
  // Any type. On return of wait() every rank has the bytes of `root`.
  virtual std::shared_ptr<Work> broadcast(const at::Tensor& tensor, int root) = 0;
  // Any type. `output` has the shape [size, ...shape of input].
  virtual std::shared_ptr<Work> all_gather(const at::Tensor& input, const at::Tensor& output) = 0;
  // Blocks until every rank has come here.
  virtual void barrier() = 0;
};

// Preconditions every backend shares; they throw c10::Error naming what was got and expected.
void check_all_reduce(const at::Tensor& tensor);
void check_broadcast(const at::Tensor& tensor, int root, int size);
void check_all_gather(const at::Tensor& input, const at::Tensor& output, int size);

// "all_reduce(Float[3, 4], sum)": how errors call an operation.
std::string describe(std::string_view operation, const at::Tensor& tensor,
                     std::string_view argument = "");
std::string_view name_of(ReduceOp op);

}  // namespace espalier
