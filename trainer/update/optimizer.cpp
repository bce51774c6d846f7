#include "trainer/update/optimizer.h"

#include <torch/torch.h>

#include "trainer/errors.h"
#include "trainer/update/freeze_schedule.h"
#include "trainer/update/name_pattern.h"

namespace espalier {
namespace {

// Of the first pattern that fits.
double rate_factor(const std::vector<PatternFactor>& factors, const std::string& group,
                   const std::string& name, std::vector<bool>& used) {
  for (size_t f = 0; f < factors.size(); ++f) {
    if (!fits_parameter(factors[f].pattern, group, name)) continue;
    used[f] = true;
    return factors[f].factor;
  }
  return 1.0;
}

}  // namespace

Optimizer::Group::Part& Optimizer::Group::part(bool decays, double rate_factor) {
  for (Part& each : parts) {
    if (each.decays == decays && each.rate_factor == rate_factor) return each;
  }
  return parts.emplace_back(Part{.decays = decays, .rate_factor = rate_factor});
}

Optimizer::Optimizer(const std::vector<ParameterGroup>& groups,
                     const std::vector<std::string>& names, const OptimizerConfig& config)
    : config_(config) {
  const std::vector<PatternFactor> factors =
      parse_pattern_factors(config.rate_factors, "optimizer.rate_factors");
  std::vector<bool> used(factors.size(), false);
  size_t index = 0;
  for (const ParameterGroup& source : groups) {
    Group& group = groups_.emplace_back();
    group.name = source.name;
    const auto device =
        source.parameters.empty() ? at::Device(at::kCPU) : source.parameters.front().device();
    group.steps = torch::zeros({}, at::TensorOptions(at::kFloat).device(device));
    state_["steps/" + group.name] = group.steps;
    for (const at::Tensor& parameter : source.parameters) {
      TORCH_CHECK(index < names.size(), "more parameters than names: ", names.size());
      // By the name without "model/NAME/".
      const std::string name = names[index].substr(names[index].rfind('/') + 1);
      const bool decays = parameter.dim() >= 2 && !fits_any_pattern(config.no_decay, name);
      const double factor = rate_factor(factors, source.name, names[index], used);
      Group::Part& part = group.part(decays, factor);
      part.parameters.push_back(parameter);
      part.means.push_back(torch::zeros_like(parameter, at::MemoryFormat::Preserve));
      part.squares.push_back(torch::zeros_like(parameter, at::MemoryFormat::Preserve));
      state_["mean/" + names[index]] = part.means.back();
      state_["square/" + names[index]] = part.squares.back();
      ++index;
    }
  }
  for (size_t f = 0; f < factors.size(); ++f) {
    if (used[f]) continue;
    throw ConfigError("optimizer.rate_factors: \"" + factors[f].pattern +
                      "\" fits no parameter that the stage trains");
  }
}

std::vector<at::Tensor> Optimizer::gradients(const std::vector<bool>& active) const {
  std::vector<at::Tensor> gradients;
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (!active[g]) continue;
    for (const Group::Part& part : groups_[g].parts) {
      for (const at::Tensor& parameter : part.parameters) gradients.push_back(parameter.grad());
    }
  }
  return gradients;
}

at::Tensor Optimizer::gradient_norm_on_device(const std::vector<bool>& active) const {
  const torch::NoGradGuard no_grad;
  const std::vector<at::Tensor> all = gradients(active);
  if (all.empty())
    return at::zeros({}, groups_.empty() ? at::TensorOptions() : groups_[0].steps.options());
  return at::linalg_vector_norm(at::stack(at::_foreach_norm(all)), 2);
}

double Optimizer::gradient_norm(const std::vector<bool>& active) const {
  return gradient_norm_on_device(active).item<double>();
}

void Optimizer::update(const std::vector<bool>& active, double learning_rate, double norm) {
  const torch::NoGradGuard no_grad;
  if (config_.clip_norm > 0 && norm > config_.clip_norm) {
    at::_foreach_mul_(gradients(active), at::Scalar(config_.clip_norm / norm));
  }
  apply(active, learning_rate, {});
}

void Optimizer::update(const std::vector<bool>& active, double learning_rate,
                       const at::Tensor& norm) {
  const torch::NoGradGuard no_grad;
  Unread unread;
  unread.is_taken = at::isfinite(norm).to(at::kFloat);
  unread.is_idle = 1 - unread.is_taken;
  // Clipping costs no pass over the gradients: the kernel divides as it reads them.
  if (config_.clip_norm > 0) unread.divisor = norm.div(config_.clip_norm).clamp_min_(1);
  apply(active, learning_rate, unread);
}

void Optimizer::apply(const std::vector<bool>& active, double learning_rate, const Unread& unread) {
  const auto given = [](const at::Tensor& t) {
    return t.defined() ? std::optional(t) : std::nullopt;
  };
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (!active[g]) continue;
    Group& group = groups_[g];
    if (unread.is_taken.defined()) {
      group.steps.add_(unread.is_taken);
    } else {
      group.steps.add_(1);
    }
    for (Group::Part& part : group.parts) {
      if (part.parameters.empty()) continue;
      std::vector<at::Tensor> grads;
      for (const at::Tensor& parameter : part.parameters) grads.push_back(parameter.grad());
      const std::vector<at::Tensor> steps(part.parameters.size(), group.steps);
      at::_fused_adamw_(part.parameters, grads, part.means, part.squares, {}, steps,
                        learning_rate * part.rate_factor, config_.beta1, config_.beta2,
                        part.decays ? config_.weight_decay : 0.0, config_.epsilon,
                        /*amsgrad=*/false, /*maximize=*/false, given(unread.divisor),
                        given(unread.is_idle));
    }
  }
}

TensorMap Optimizer::state() const { return state_; }

}  // namespace espalier
