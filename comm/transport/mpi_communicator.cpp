#include "comm/transport/mpi_communicator.h"

#include <utility>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "comm/transport/mpi_progress.h"

namespace espalier {
namespace {

combine::Type combine_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return combine::Type::kFloat;
    case at::kDouble:
      return combine::Type::kDouble;
    case at::kBFloat16:
      return combine::Type::kBFloat16;
    case at::kInt:
      return combine::Type::kInt32;
    case at::kLong:
      return combine::Type::kInt64;
    default:
      return combine::Type::kUint8;  // all_reduce() lets nothing else through
  }
}

combine::Op combine_op(ReduceOp op) {
  return op == ReduceOp::kSum   ? combine::Op::kSum
         : op == ReduceOp::kMax ? combine::Op::kMax
                                : combine::Op::kMin;
}

std::byte* bytes_of(const at::Tensor& tensor) { return static_cast<std::byte*>(tensor.data_ptr()); }

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(const CommunicatorOptions& options, const MpiOptions& mpi)
      : Communicator(options),
        stages_tensors_(mpi.stages_tensors),
        progress_(options.timeout_s, mpi),
        topology_(progress_.world().topology()),
        slot_bytes_(progress_.world().slot_bytes()) {}

  int rank() const override { return topology_.rank(); }
  int size() const override { return topology_.size(); }
  std::string_view backend() const override { return "mpi"; }
  void abort(const std::string& why) override { progress_.abort(why); }

 protected:
  void check_device(const at::Tensor& tensor) const override {
    TORCH_CHECK(!tensor.is_meta(), "MPI moves bytes, and a tensor on ", tensor.device(),
                " has none");
  }

  std::shared_ptr<Work> do_all_reduce(const at::Tensor& tensor, ReduceOp op,
                                      CollectiveRecord record) override {
    MpiJob job = job_on(tensor);
    job.schedule = all_reduce_schedule(topology_);
    job.layout =
        divided_layout(bytes_of(job.tensor), tensor.numel(),
                       static_cast<int64_t>(tensor.element_size()), job.schedule, slot_bytes_);
    job.combine = combine::function_of(combine_type(tensor.scalar_type()), combine_op(op));
    return submit(std::move(record), std::move(job));
  }

  std::shared_ptr<Work> do_broadcast(const at::Tensor& tensor, int root,
                                     CollectiveRecord record) override {
    MpiJob job = job_on(tensor);
    job.schedule = broadcast_schedule(topology_, root);
    job.layout = divided_layout(bytes_of(job.tensor), static_cast<int64_t>(tensor.nbytes()),
                                /*element_bytes=*/1, job.schedule, slot_bytes_);
    return submit(std::move(record), std::move(job));
  }

  std::shared_ptr<Work> do_all_gather(const at::Tensor& input, const at::Tensor& output,
                                      CollectiveRecord record) override {
    {
      const at::NoGradGuard no_grad;
      output.select(0, rank()).copy_(input);
    }
    MpiJob job = job_on(output);
    job.schedule = all_gather_schedule(topology_);
    job.layout = row_layout(bytes_of(job.tensor), static_cast<int64_t>(input.nbytes()),
                            job.schedule, slot_bytes_);
    return submit(std::move(record), std::move(job));
  }

  void do_barrier(CollectiveRecord record) override {
    // A sum of one element per rank: none has it before all have come.
    do_all_reduce(at::zeros({1}, at::kInt), ReduceOp::kSum, std::move(record))->wait();
  }

 private:
  MpiJob job_on(const at::Tensor& tensor) const {
    MpiJob job;
    job.tensor = tensor;
    if (stages_tensors_ || !tensor.device().is_cpu()) {
      job.stage = std::make_shared<HostStage>(tensor);
      job.stages = stages_;
      job.tensor = job.stage->host();
    }
    return job;
  }

  std::shared_ptr<Work> submit(CollectiveRecord record, MpiJob job) {
    if (job.stage) stages_->add(job.stage);
    auto operation =
        std::make_shared<MpiOperation>(std::move(record), std::move(job), progress_.waiters());
    progress_.submit(operation);
    return operation;
  }

  const bool stages_tensors_;
  const std::shared_ptr<HostStages> stages_ = std::make_shared<HostStages>();
  MpiProgress progress_;
  const Topology topology_;
  const int64_t slot_bytes_;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(const CommunicatorOptions& options,
                                                    const MpiOptions& mpi) {
  TORCH_CHECK(options.timeout_s > 0, "timeout_s must be positive, got ", options.timeout_s);
  TORCH_CHECK(mpi.slot_bytes >= 4096 && mpi.slot_bytes <= (1 << 24),
              "slot_bytes must be between 4 KiB and 16 MiB, got ", mpi.slot_bytes);
  return std::make_unique<MpiCommunicator>(options, mpi);
}

}  // namespace espalier
