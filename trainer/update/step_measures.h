#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace espalier {

// What steps on a GPU measure, kept there until somebody wants to know: Note [The host does not
// wait for a GPU] in step_loop.h.
class StepMeasures {
 public:
  StepMeasures(size_t losses, at::Device device);

  // After every step: sums of losses of this rank (undefined = none), the norm of all gradients and
  // whether it is finite. The host does not wait.
  void add(const std::vector<at::Tensor>& loss_sums, const at::Tensor& gradient_norm,
           const at::Tensor& is_finite);

  struct Values {
    std::vector<double> loss_sums;  // over the steps since the last take()
    double gradient_norm = 0;       // of the last step
    int64_t bad_steps = 0;          // in a row, up to the last one: those that were not finite
  };
  // One copy, for which the host waits.
  Values take();

  void set_bad_steps(int64_t in_a_row);

 private:
  int64_t losses_;
  at::Tensor values_;  // double: loss sums, the norm, bad steps in a row
};

}  // namespace espalier
