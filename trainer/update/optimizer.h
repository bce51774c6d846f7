#pragma once

#include <string>
#include <vector>

#include "comm/reduction/gradient_reducer.h"
#include "models/weights/safetensors.h"
#include "trainer/config/run_config.h"

namespace espalier {

// AdamW over parameter groups. A group that nobody ran keeps its weights, its moments and its step
// count: no decay and no bias correction happens for steps it did not take part in.
class Optimizer {
 public:
  // `names` gives each parameter's name, in the order of the groups.
  Optimizer(const std::vector<ParameterGroup>& groups, const std::vector<std::string>& names,
            const OptimizerConfig& config);

  // Norm over all gradients of active groups; nan or inf when any of them is not finite.
  double gradient_norm(const std::vector<bool>& active) const;
  // The same where the gradients are, fp32: a GPU's host does not wait for it.
  at::Tensor gradient_norm_on_device(const std::vector<bool>& active) const;

  // Scales down to config.clip_norm and updates. `norm` is what gradient_norm() returned.
  void update(const std::vector<bool>& active, double learning_rate, double norm);
  // The same without the host knowing the norm; where it is not finite, nothing changes.
  void update(const std::vector<bool>& active, double learning_rate, const at::Tensor& norm);

  // Moments and step counts, aliasing live storage.
  TensorMap state() const;

 private:
  struct Group {
    // One fused call each: with decay (matrices) and without (biases, norms, scales, and what
    // config.no_decay names), for each factor of the learning rate.
    struct Part {
      bool decays = false;
      double rate_factor = 1.0;
      std::vector<at::Tensor> parameters = {}, means = {}, squares = {};
    };
    Part& part(bool decays, double rate_factor);

    std::string name;
    std::vector<Part> parts;
    at::Tensor steps;  // fp32 scalar, shared by the parameters of the group
  };

  // What the fused kernel takes besides, as tensors of its device; undefined = nothing.
  struct Unread {
    at::Tensor divisor;   // of the gradients
    at::Tensor is_idle;   // 1: the kernel leaves everything as it is
    at::Tensor is_taken;  // 1 - is_idle
  };

  std::vector<at::Tensor> gradients(const std::vector<bool>& active) const;
  void apply(const std::vector<bool>& active, double learning_rate, const Unread& unread);

  std::vector<Group> groups_;
  OptimizerConfig config_;
  TensorMap state_;
};

}  // namespace espalier
