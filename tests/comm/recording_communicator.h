#pragma once

#include <memory>
#include <vector>

#include "comm/communicator.h"

namespace espalier {

// Passes everything on, and keeps what all_reduce was given and gave.
class RecordingCommunicator : public Communicator {
 public:
  explicit RecordingCommunicator(Communicator& next) : next_(next) {}

  int rank() const override { return next_.rank(); }
  int size() const override { return next_.size(); }
  std::string_view backend() const override { return next_.backend(); }

  std::shared_ptr<Work> all_reduce(const at::Tensor& tensor, ReduceOp op) override {
    elements.push_back(tensor.numel());
    works.push_back(next_.all_reduce(tensor, op));
    return works.back();
  }
  std::shared_ptr<Work> broadcast(const at::Tensor& tensor, int root) override {
    return next_.broadcast(tensor, root);
  }
  std::shared_ptr<Work> all_gather(const at::Tensor& input, const at::Tensor& output) override {
    return next_.all_gather(input, output);
  }
  void barrier() override { next_.barrier(); }

  std::vector<int64_t> elements;
  std::vector<std::shared_ptr<Work>> works;

 private:
  Communicator& next_;
};

}  // namespace espalier
