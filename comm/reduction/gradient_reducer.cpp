#include "comm/reduction/gradient_reducer.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

namespace espalier {
namespace {

// Gradients start at cache lines, which also suits vector instructions.
constexpr int64_t kAlignmentBytes = 64;

int64_t padded_elements(const at::Tensor& parameter) {
  const auto alignment = kAlignmentBytes / static_cast<int64_t>(parameter.element_size());
  return (parameter.numel() + alignment - 1) / alignment * alignment;
}

int64_t default_bucket_bytes(const Communicator& communicator) {
  return (communicator.backend() == "nccl" ? int64_t{32} : int64_t{4}) << 20;
}

bool can_share_bucket(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.device() == b.device();
}

void check_groups(const std::vector<ParameterGroup>& groups) {
  std::unordered_set<const void*> seen;
  for (const ParameterGroup& group : groups) {
    for (const at::Tensor& parameter : group.parameters) {
      TORCH_CHECK(parameter.is_leaf() && parameter.requires_grad(), "group ", group.name,
                  ": every parameter must be a leaf that requires a gradient");
      TORCH_CHECK(parameter.is_non_overlapping_and_dense(), "group ", group.name,
                  ": parameters must be dense");
      TORCH_CHECK(seen.insert(parameter.unsafeGetTensorImpl()).second, "group ", group.name,
                  ": a parameter is in two groups, or twice in this one");
    }
  }
}

}  // namespace

class GradientReducer::Hook : public torch::autograd::PostAccumulateGradHook {
 public:
  Hook(GradientReducer& reducer, Bucket& bucket, size_t index)
      : reducer_(reducer), bucket_(bucket), index_(index) {}

  void operator()(const at::Tensor&) override { reducer_.on_gradient(bucket_, index_); }

 private:
  GradientReducer& reducer_;
  Bucket& bucket_;
  size_t index_;
};

GradientReducer::GradientReducer(Communicator& communicator, std::vector<ParameterGroup> groups,
                                 ReducerOptions options)
    : communicator_(communicator), active_(groups.size(), false) {
  check_groups(groups);
  const int64_t bucket_bytes =
      options.bucket_bytes > 0 ? options.bucket_bytes : default_bucket_bytes(communicator);
  for (size_t group = groups.size(); group-- > 0;) {
    add_buckets(group, groups[group].parameters, bucket_bytes);
  }
  for (ParameterGroup& group : groups) group_names_.push_back(std::move(group.name));
  for (Bucket& bucket : buckets_) {  // after the last growth of buckets_: hooks hold references
    for (size_t index = 0; index < bucket.parameters.size(); ++index) {
      torch::autograd::impl::set_post_acc_grad_hooks(bucket.parameters[index],
                                                     std::make_unique<Hook>(*this, bucket, index));
    }
  }
}

GradientReducer::~GradientReducer() {
  for (const Bucket& bucket : buckets_) {
    for (const at::Tensor& parameter : bucket.parameters) {
      torch::autograd::impl::set_post_acc_grad_hooks(parameter, nullptr);
    }
  }
}

// Greedy from the back: the order of readiness, which a better packing would need, differs by task.
void GradientReducer::add_buckets(size_t group, const std::vector<at::Tensor>& parameters,
                                  int64_t bucket_bytes) {
  for (size_t end = parameters.size(); end > 0;) {
    Bucket bucket;
    bucket.group = group;
    int64_t elements = 0;
    const auto element_bytes = static_cast<int64_t>(parameters[end - 1].element_size());
    while (end > 0) {
      const at::Tensor& parameter = parameters[end - 1];
      const int64_t larger = elements + padded_elements(parameter);
      const bool fits =
          larger * element_bytes <= bucket_bytes &&
          (bucket.parameters.empty() || can_share_bucket(parameter, bucket.parameters.front()));
      if (!fits && !bucket.parameters.empty()) break;
      bucket.parameters.push_back(parameter);
      elements = larger;
      --end;
    }
    bucket.flat = at::zeros({elements}, bucket.parameters.front().options().requires_grad(false));
    int64_t offset = 0;
    for (const at::Tensor& parameter : bucket.parameters) {
      // The strides of the parameter, so that autograd adds in place and optimizers walk both
      // alike.
      bucket.gradients.push_back(
          bucket.flat.as_strided(parameter.sizes(), parameter.strides(), offset));
      offset += padded_elements(parameter);
    }
    buckets_.push_back(std::move(bucket));
  }
}

void GradientReducer::start_step(const std::vector<bool>& active) {
  TORCH_CHECK(phase_ == Phase::kIdle, "start_step() before finish() of the step before");
  TORCH_CHECK(active.size() == active_.size(), "start_step() needs ", active_.size(),
              " flags, one per group, got ", active.size());
  active_ = active;
  next_ = 0;
  phase_ = Phase::kAccumulating;
  for (Bucket& bucket : buckets_) {
    if (!active_[bucket.group]) continue;
    bucket.flat.zero_();
    bucket.pending = bucket.parameters.size();
    for (size_t i = 0; i < bucket.parameters.size(); ++i) {
      at::Tensor& gradient = bucket.parameters[i].mutable_grad();
      if (!gradient.is_same(bucket.gradients[i])) gradient = bucket.gradients[i];
    }
  }
}

void GradientReducer::expect_last_backward(const std::vector<bool>& used) {
  TORCH_CHECK(phase_ == Phase::kAccumulating,
              "expect_last_backward() comes once per step, after start_step()");
  TORCH_CHECK(used.size() == active_.size(), "expect_last_backward() needs ", active_.size(),
              " flags, one per group, got ", used.size());
  for (size_t group = 0; group < used.size(); ++group) {
    TORCH_CHECK(!used[group] || active_[group], "group ", group_names_[group],
                " is used in the last backward, but start_step() called it inactive");
  }
  phase_ = Phase::kLastBackward;
  for (Bucket& bucket : buckets_) {
    if (!used[bucket.group]) bucket.pending = 0;
  }
  send_ready();
}

void GradientReducer::on_gradient(Bucket& bucket, size_t index) {
  const std::lock_guard lock(mutex_);
  if (phase_ == Phase::kIdle) return;
  const std::string& group = group_names_[bucket.group];
  TORCH_CHECK(active_[bucket.group], "a gradient of group ", group,
              " arrived in a step whose start_step() called the group inactive");
  TORCH_CHECK(bucket.parameters[index].grad().is_alias_of(bucket.flat), "a gradient of group ",
              group, " was replaced during the step; start_step() zeroes gradients, nobody else");
  if (phase_ == Phase::kAccumulating) return;
  TORCH_CHECK(bucket.pending > 0, "a gradient of group ", group, " arrived after it was sent: ",
              "expect_last_backward() did not name the group, or was not the last");
  if (--bucket.pending == 0) send_ready();
}

// See Note [Buckets leave in one order].
void GradientReducer::send_ready() {
  for (; next_ < buckets_.size(); ++next_) {
    Bucket& bucket = buckets_[next_];
    if (!active_[bucket.group]) continue;
    if (bucket.pending > 0) return;
    bucket.work = communicator_.all_reduce(bucket.flat, ReduceOp::kSum);
  }
}

void GradientReducer::finish() {
  TORCH_CHECK(phase_ != Phase::kIdle, "finish() before start_step()");
  for (Bucket& bucket : buckets_) bucket.pending = 0;
  send_ready();
  phase_ = Phase::kIdle;
  for (Bucket& bucket : buckets_) {
    if (bucket.work) std::exchange(bucket.work, nullptr)->order_stream();
  }
}

}  // namespace espalier
