#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace espalier {

// Gradients of several objectives on the same parameters, each in two halves of its micro-batches,
// beside what training does with them: gradients are copied as a backward pass delivers them, and
// the pass and what it adds to `.grad` stay as they are.
//
// Note [A gradient is caught where it arrives]: a hook on a parameter sees the gradient of one
// backward pass before it is added to `.grad`. Where one objective trains on a micro-batch that is
// its gradient, and it costs an addition. Where several do, each gets a pass of its own over the
// same graph first, which delivers to nobody but us.
class GradientSums {
 public:
  // Leaves that require gradients, of one type on one device.
  GradientSums(std::vector<at::Tensor> parameters, int64_t objectives);
  ~GradientSums();  // removes the hooks
  GradientSums(const GradientSums&) = delete;
  GradientSums& operator=(const GradientSums&) = delete;

  void start();  // zeros, whose memory is held until stop()
  void stop();
  double bytes() const;  // of the memory that start() takes
  bool is_on() const { return sums_.defined(); }

  // The gradients of the next backward passes are added to this half, until catch_none().
  void catch_next(int64_t objective, size_t half);
  void catch_none() { caught_.clear(); }
  // The gradient of `loss` is added to it; the graph stays for the backward pass of training.
  void add(int64_t objective, size_t half, const at::Tensor& loss);

  // (2 * objectives, numbers): row 2 * objective + half, the parameters one after the other.
  const at::Tensor& rows() const { return sums_; }
  // Where a parameter begins in a row.
  const std::vector<int64_t>& offsets() const { return offsets_; }

  // Time spent inside backward passes of training, since start(); of a GPU what the host took.
  double hook_seconds() const { return hook_seconds_; }

 private:
  void on_gradient(size_t index, const at::Tensor& gradient);  // in backward
  std::vector<at::Tensor> views_of(int64_t objective, size_t half) const;

  std::vector<at::Tensor> parameters_;
  std::vector<unsigned> hooks_;
  std::vector<int64_t> offsets_;
  int64_t objectives_, numbers_ = 0;
  at::Tensor sums_;
  std::vector<at::Tensor> caught_;  // of a row, one per parameter; empty = nothing is caught
  double hook_seconds_ = 0;
};

}  // namespace espalier
