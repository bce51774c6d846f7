#include "comm/transport/single_communicator.h"

#include <ATen/core/grad_mode.h>

namespace espalier {
namespace {

class Complete : public Work {
 public:
  void wait() override {}
};

class SingleCommunicator : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string_view backend() const override { return "single"; }

  std::shared_ptr<Work> all_reduce(const at::Tensor& tensor, ReduceOp) override {
    check_all_reduce(tensor);
    return complete_;
  }

  std::shared_ptr<Work> broadcast(const at::Tensor& tensor, int root) override {
    check_broadcast(tensor, root, 1);
    return complete_;
  }

  std::shared_ptr<Work> all_gather(const at::Tensor& input, const at::Tensor& output) override {
    check_all_gather(input, output, 1);
    const at::NoGradGuard no_grad;
    output.select(0, 0).copy_(input);
    return complete_;
  }

  void barrier() override {}

 private:
  std::shared_ptr<Work> complete_ = std::make_shared<Complete>();
};

}  // namespace

std::unique_ptr<Communicator> make_single_communicator() {
  return std::make_unique<SingleCommunicator>();
}

}  // namespace espalier
