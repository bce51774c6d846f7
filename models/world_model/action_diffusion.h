#pragma once

#include <cstdint>

#include <torch/torch.h>

#include "models/world_model/diffusion_schedule.h"
#include "models/world_model/diffusion_transformer.h"

namespace espalier {

enum class DiffusionTarget {
  kEpsilon,  // the noise of a diffusion, sampled by DDIM
  kFlow,     // the velocity of flow matching, sampled by Euler
};

struct ActionDiffusionOptions {
  DiffusionTransformerOptions transformer;
  DiffusionTarget target = DiffusionTarget::kEpsilon;
  int64_t diffusion_steps = 100;  // published: 100; of the flow's times 10
};

// The random numbers of a training step, made by the caller. Row r is draw r / B of sample r mod B;
// published: 8 draws per sample, a condition dropped with probability 0.1.
struct DiffusionDraws {
  at::Tensor noise;    // (R, T, action_width) fp32, standard normal; B divides R
  at::Tensor time;     // (R): int64 in 0 .. diffusion_steps-1, or for a flow fp32 in [0, 1]
  at::Tensor dropped;  // (R) bool; undefined for none
  // (B, T) fp32: 0 where a sample has no action, behind the end of its episode; undefined: all
  // count. What stands there is still seen by the others.
  at::Tensor counted = {};
};

struct ActionSamplingOptions {
  int64_t steps = 10;
  // What is predicted is u + guidance (c - u), u without and c with the condition; 1 saves half.
  // Published: 1.5 for epsilon, always 1 for a flow.
  double guidance = 1.5;
};

// A chunk of actions from the hidden rows of action queries, by diffusion (DreamVLA,
// models/action_model/action_model.py). Draws nothing itself: same arguments, same actions.
class ActionDiffusionImpl : public torch::nn::Module {
 public:
  explicit ActionDiffusionImpl(const ActionDiffusionOptions& options);

  // Sum of squared errors over the R draws, scalar fp32; count: draws.noise.numel(), less
  // what draws.counted leaves out. actions (B, T, action_width), condition (B, T, condition_width).
  // About 1 per element at the start.
  at::Tensor loss(const at::Tensor& actions, const at::Tensor& condition,
                  const DiffusionDraws& draws);

  // Actions (B, T, action_width) for conditions (B, T, condition_width) from noise of their shape.
  // No gradients. epsilon: DDIM, eta 0, without clipping; steps as DiffusionSchedule allows.
  at::Tensor sample(const at::Tensor& condition, const at::Tensor& noise,
                    const ActionSamplingOptions& options);

  const DiffusionSchedule& schedule() const { return schedule_; }
  const ActionDiffusionOptions& options() const { return options_; }

  DiffusionTransformer transformer{nullptr};

 private:
  at::Tensor predict(const at::Tensor& x, double time, const at::Tensor& condition,
                     double guidance);

  ActionDiffusionOptions options_;
  DiffusionSchedule schedule_;
};
TORCH_MODULE(ActionDiffusion);

}  // namespace espalier
