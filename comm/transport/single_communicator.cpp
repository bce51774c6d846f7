#include "comm/transport/single_communicator.h"

#include <mutex>

#include <ATen/core/grad_mode.h>

namespace espalier {
namespace {

class Complete : public Work {
 public:
  void wait() override {}
};

class Failed : public Work {
 public:
  explicit Failed(std::string why) : why_(std::move(why)) {}
  void wait() override { throw CommError(why_); }

 private:
  std::string why_;
};

class SingleCommunicator : public Communicator {
 public:
  explicit SingleCommunicator(const CommunicatorOptions& options) : Communicator(options) {}

  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string_view backend() const override { return "single"; }

  void abort(const std::string& why) override {
    const std::lock_guard lock(mutex_);
    outcome_ = std::make_shared<Failed>(why);
  }

 protected:
  std::shared_ptr<Work> do_all_reduce(const at::Tensor&, ReduceOp,
                                      CollectiveRecord record) override {
    return complete(record);
  }

  std::shared_ptr<Work> do_broadcast(const at::Tensor&, int, CollectiveRecord record) override {
    return complete(record);
  }

  std::shared_ptr<Work> do_all_gather(const at::Tensor& input, const at::Tensor& output,
                                      CollectiveRecord record) override {
    const at::NoGradGuard no_grad;
    output.select(0, 0).copy_(input);
    return complete(record);
  }

  void do_barrier(CollectiveRecord record) override { complete(record)->wait(); }

 private:
  std::shared_ptr<Work> complete(const CollectiveRecord& record) {
    record.end();
    const std::lock_guard lock(mutex_);
    return outcome_;
  }

  std::mutex mutex_;
  std::shared_ptr<Work> outcome_ = std::make_shared<Complete>();
};

}  // namespace

std::unique_ptr<Communicator> make_single_communicator(const CommunicatorOptions& options) {
  return std::make_unique<SingleCommunicator>(options);
}

}  // namespace espalier
