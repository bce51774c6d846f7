#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace espalier {

// Passes everything on, and keeps what all_reduce was given and gave. The flight recorder is that
// of the communicator behind it.
class RecordingCommunicator : public Communicator {
 public:
  explicit RecordingCommunicator(Communicator& next) : next_(next) {}

  int rank() const override { return next_.rank(); }
  int size() const override { return next_.size(); }
  std::string_view backend() const override { return next_.backend(); }
  void abort(const std::string& why) override { next_.abort(why); }

  std::vector<int64_t> elements;
  std::vector<std::shared_ptr<Work>> works;

 protected:
  std::shared_ptr<Work> do_all_reduce(const at::Tensor& tensor, ReduceOp op,
                                      CollectiveRecord) override {
    elements.push_back(tensor.numel());
    works.push_back(next_.all_reduce(tensor, op));
    return works.back();
  }
  std::shared_ptr<Work> do_broadcast(const at::Tensor& tensor, int root,
                                     CollectiveRecord) override {
    return next_.broadcast(tensor, root);
  }
  std::shared_ptr<Work> do_all_gather(const at::Tensor& input, const at::Tensor& output,
                                      CollectiveRecord) override {
    return next_.all_gather(input, output);
  }
  void do_barrier(CollectiveRecord) override { next_.barrier(); }

 private:
  Communicator& next_;
};

}  // namespace espalier
