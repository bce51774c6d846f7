#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>

#include "comm/collective_record.h"
#include "comm/work.h"

namespace espalier {

enum class ReduceOp { kSum, kMax, kMin };

struct CommunicatorOptions {
  // An operation without any progress for so long ends in Timeout, and the communicator is dead.
  double timeout_s = 600;
  // A transport that does not let go within so long after a failure ends the process.
  double abort_grace_s = 30;
  // Where a deadline leaves collectives-rank-N.jsonl, the flight recorder; empty: nowhere.
  std::string dump_directory = {};
  // Records the operations; null: one of its own. A process hands the same to all it makes.
  std::shared_ptr<CollectiveWatch> watch = nullptr;
};

// A fixed group of ranks that exchange tensors.
//
// Every rank issues the same operations, with the same shapes and types, in the same order: that
// order, and nothing else, pairs them. Operations work in place on contiguous tensors, run
// asynchronously, and finish in the order of their issue. A result has the same bits on every rank,
// and the same bits in every run with as many ranks placed alike on machines.
//
// One thread at a time may issue operations; any thread may wait. Failures surface at Work::wait(),
// wrong arguments (c10::Error) at once.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string_view backend() const = 0;  // "single", "threads", "mpi", "nccl"

  // float, double, bfloat16, int32, int64, uint8. bfloat16 adds in float and rounds at every hop.
  std::shared_ptr<Work> all_reduce(const at::Tensor& tensor, ReduceOp op = ReduceOp::kSum);
  // Any type. On return of wait() every rank has the bytes of `root`.
  std::shared_ptr<Work> broadcast(const at::Tensor& tensor, int root);
  // Any type. `output` has the shape [size, ...shape of input].
  std::shared_ptr<Work> all_gather(const at::Tensor& input, const at::Tensor& output);
  // Blocks until every rank has come here.
  void barrier();

  // Any thread. Ends what is under way, and everything later, with CommError(`why`): for whoever
  // learns by another way that a peer is gone.
  virtual void abort(const std::string& why) = 0;

  const std::shared_ptr<CollectiveWatch>& watch() const { return recording_.watch; }

 protected:
  // `group` names this communicator in the flight recorder, in at most 15 letters.
  explicit Communicator(const CommunicatorOptions& options = {}, std::string group = "world");

  // Throws c10::Error for a tensor that lies where this backend cannot reach it.
  virtual void check_device(const at::Tensor& /*tensor*/) const {}

  // The same calls with arguments that were checked, and the record to report start and end to.
  virtual std::shared_ptr<Work> do_all_reduce(const at::Tensor& tensor, ReduceOp op,
                                              CollectiveRecord record) = 0;
  virtual std::shared_ptr<Work> do_broadcast(const at::Tensor& tensor, int root,
                                             CollectiveRecord record) = 0;
  virtual std::shared_ptr<Work> do_all_gather(const at::Tensor& input, const at::Tensor& output,
                                              CollectiveRecord record) = 0;
  virtual void do_barrier(CollectiveRecord record) = 0;

 private:
  CollectiveRecord record(const CollectiveCall& call) const { return {recording_, rank(), call}; }

  const CollectiveRecording recording_;
};

std::string_view name_of(ReduceOp op);

}  // namespace espalier
