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

  // Scales down to config.clip_norm and updates. `norm` is what gradient_norm() returned.
  void update(const std::vector<bool>& active, double learning_rate, double norm);

  // Moments and step counts, aliasing live storage.
  TensorMap state() const;

 private:
  struct Group {
    // Two fused calls per group: with decay (matrices) and without (biases, norms, scales, and
    // what config.no_decay names).
    struct Part {
      std::vector<at::Tensor> parameters, means, squares;
      bool decays = false;
    };
    std::string name;
    Part parts[2];
    at::Tensor steps;  // fp32 scalar, shared by the parameters of the group
  };

  std::vector<at::Tensor> gradients(const std::vector<bool>& active) const;

  std::vector<Group> groups_;
  OptimizerConfig config_;
  TensorMap state_;
};

}  // namespace espalier
