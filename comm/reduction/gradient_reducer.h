#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"

namespace espalier {

// Parameters that a backward pass either reaches as a whole or not at all: a trunk, a branch.
struct ParameterGroup {
  std::string name;
  std::vector<at::Tensor> parameters;
};

struct ReducerOptions {
  // One parameter alone may be larger. 0: what suits the backend, 32 MiB over NCCL, which starts a
  // kernel and a thread for each, and 4 MiB elsewhere, so that more of them hide behind backward.
  int64_t bucket_bytes = 0;
};

// Sums gradients over ranks while backward still runs.
//
// The gradients of a group are views of flat buckets, so a bucket travels by one all-reduce and is
// never copied. Ranks may run different groups in a step, or none: a rank adds zeros for what it
// did not run.
//
// Note [Buckets leave in one order]: operations of different ranks pair by order alone, while
// gradients become ready in an order that depends on what a rank ran. So buckets have one fixed
// order, last group and last parameter first (about the order of backward), and a bucket that is
// ready waits until all active ones before it have left.
class GradientReducer {
 public:
  // Every rank passes the same groups. Parameters are leaves that require gradients, each in one
  // group only; c10::Error otherwise.
  GradientReducer(Communicator& communicator, std::vector<ParameterGroup> groups,
                  ReducerOptions options = {});
  ~GradientReducer();  // removes the hooks; gradients stay
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  // Zeroes the gradients of active groups. `active[g]`: some rank runs group g in this step; the
  // same on every rank. Other groups are neither reduced nor touched.
  void start_step(const std::vector<bool>& active);

  // The next backward is the last of this step on this rank, and touches the groups in `used`.
  // Without this call everything leaves in finish().
  void expect_last_backward(const std::vector<bool>& used);

  // Sends what has not left. Then the gradients of active groups are sums over all ranks, for the
  // host, or for the current stream of their device where the backend can let that wait alone.
  void finish();

 private:
  class Hook;
  struct Bucket {
    size_t group = 0;
    std::vector<at::Tensor> parameters;
    at::Tensor flat;
    std::vector<at::Tensor> gradients;  // views of `flat`, one per parameter
    size_t pending = 0;                 // gradients that the last backward has yet to deliver
    std::shared_ptr<Work> work;
  };
  enum class Phase { kIdle, kAccumulating, kLastBackward };

  void add_buckets(size_t group, const std::vector<at::Tensor>& parameters, int64_t bucket_bytes);
  void on_gradient(Bucket& bucket, size_t index);  // in backward, possibly on an autograd thread
  void send_ready();

  Communicator& communicator_;
  std::vector<std::string> group_names_;
  std::vector<Bucket> buckets_;  // in the order in which they leave
  std::vector<bool> active_;
  size_t next_ = 0;  // first bucket that has not left
  Phase phase_ = Phase::kIdle;
  std::mutex mutex_;
};

}  // namespace espalier
