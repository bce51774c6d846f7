#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace espalier {

// Noise over time of a diffusion of `steps` steps: squaredcos_cap_v2 (Nichol and Dhariwal 2021;
// gaussian_diffusion.py of DiT and DreamVLA, diffusers' DDPMScheduler). Tables are double.
class DiffusionSchedule {
 public:
  explicit DiffusionSchedule(int64_t steps);

  int64_t steps() const { return static_cast<int64_t>(betas_.size()); }
  const std::vector<double>& betas() const { return betas_; }
  // abar_t, the share of the signal's variance left at step t; t = -1 is the clean signal: 1.
  double alpha_bar(int64_t t) const;

  // x_t = sqrt(abar_t) x + sqrt(1 - abar_t) noise. x and noise (R, ...), t (R) int64 in
  // 0 .. steps-1.
  at::Tensor noised(const at::Tensor& x, const at::Tensor& noise, const at::Tensor& t) const;

  // The steps that DDIM visits, rising from 0 with one stride (DiT's "ddimN"): 10 of 100 are
  // 0, 10 .. 90. One sample step is the middle. Throws c10::Error when no stride gives that many.
  std::vector<int64_t> ddim_timesteps(int64_t count) const;
  // From x_t to the step before it, eta = 0, no clipping: the clean signal that epsilon implies,
  // noised to `previous` with the same epsilon. previous = -1 gives the clean signal.
  at::Tensor ddim_step(const at::Tensor& x_t, const at::Tensor& epsilon, int64_t t,
                       int64_t previous) const;

 private:
  std::vector<double> betas_, alpha_bar_;
  mutable at::Tensor alpha_bar_table_;  // (steps) double, where it was last asked for
};

// Flow matching along a straight line (Lipman et al. 2022): t x + (1 - t) noise for t (R) in
// [0, 1], 0 being noise. The velocity to learn is x - noise.
at::Tensor flow_point(const at::Tensor& x, const at::Tensor& noise, const at::Tensor& t);

}  // namespace espalier
