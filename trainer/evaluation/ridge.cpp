#include "trainer/evaluation/ridge.h"

#include <torch/torch.h>

#include <algorithm>
#include <utility>

#include "trainer/evaluation/nearest_neighbours.h"

namespace espalier {
namespace {

constexpr double kPenalties[] = {1e3,  1e2,  1e1, 1e0,
                                 1e-1, 1e-2, 1e-3};  // times the mean eigenvalue

// Features and targets less their means, and what every penalty needs of them. The smaller of the
// two Gram matrices is factorised; both ways give the same weights.
struct Problem {
  at::Tensor labels;          // (N)
  at::Tensor targets;         // (N, K), one-hot
  at::Tensor x_mean, y_mean;  // (C), (K)
  at::Tensor x, y;            // (N, C), (N, K): centred
  at::Tensor gram;            // XᵀX (C, C), or XXᵀ (N, N) where N < C
  bool is_dual = false;
};

Problem make_problem(const at::Tensor& features, const at::Tensor& labels, int64_t classes) {
  TORCH_CHECK(features.size(0) > 0, "ridge: there are no training samples");
  TORCH_CHECK(labels.ge(0).all().item<bool>(), "ridge: a training sample has no label");
  const at::Tensor x = features.flatten(1).to(at::kDouble);
  Problem problem;
  problem.labels = labels;
  problem.targets = at::one_hot(labels, classes).to(at::kDouble);
  problem.x_mean = x.mean(0);
  problem.y_mean = problem.targets.mean(0);
  problem.x = x - problem.x_mean;
  problem.y = problem.targets - problem.y_mean;
  problem.is_dual = x.size(0) < x.size(1);
  problem.gram =
      problem.is_dual ? at::mm(problem.x, problem.x.t()) : at::mm(problem.x.t(), problem.x);
  return problem;
}

// The prediction for a sample is a fixed share h of its own target plus what the others say, so
// leaving it out divides its residual by 1 - h. The mean, which every sample moves, adds 1/N to h.
RidgeClassifier fit_with(const Problem& problem, double lambda) {
  const double own_mean = 1.0 / static_cast<double>(problem.x.size(0));
  at::Tensor damped = problem.gram.clone();
  damped.diagonal().add_(lambda);
  const at::Tensor factor = at::linalg_cholesky(damped);
  at::Tensor weights, residual, rest;  // rest: 1 - h
  if (problem.is_dual) {
    const at::Tensor inverse = at::cholesky_inverse(factor);
    const at::Tensor alpha = at::mm(inverse, problem.y);
    weights = at::mm(problem.x.t(), alpha);
    residual = alpha * lambda;
    rest = inverse.diagonal() * lambda - own_mean;
  } else {
    weights = at::cholesky_solve(at::mm(problem.x.t(), problem.y), factor);
    residual = problem.y - at::mm(problem.x, weights);
    const at::Tensor whitened =
        at::linalg_solve_triangular(factor, problem.x.t(), /*upper=*/false);  // (C, N)
    rest = 1.0 - own_mean - whitened.square().sum(0);
  }
  const at::Tensor left_out = problem.targets - residual / rest.clamp_min(1e-12).unsqueeze(1);
  return {problem.x_mean, weights, problem.y_mean, lambda,
          share_right(left_out.argmax(1), problem.labels)};
}

}  // namespace

at::Tensor RidgeClassifier::answers(const at::Tensor& queries) const {
  const torch::NoGradGuard no_gradient;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  return at::addmm(bias, queries.flatten(1).to(at::kDouble) - mean, weights).argmax(1);
}

RidgeClassifier fit_ridge(const at::Tensor& features, const at::Tensor& labels, int64_t classes) {
  const torch::NoGradGuard no_gradient;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const Problem problem = make_problem(features, labels, classes);
  const double eigenvalue =
      problem.gram.trace().item<double>() / static_cast<double>(problem.gram.size(0));
  RidgeClassifier best;
  best.leave_one_out_accuracy = -1;
  for (const double penalty : kPenalties) {
    RidgeClassifier fit = fit_with(problem, penalty * std::max(eigenvalue, 1e-12));
    if (fit.leave_one_out_accuracy > best.leave_one_out_accuracy) best = std::move(fit);
  }
  return best;
}

RidgeClassifier fit_ridge(const at::Tensor& features, const at::Tensor& labels, int64_t classes,
                          double lambda) {
  const torch::NoGradGuard no_gradient;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  TORCH_CHECK(lambda > 0, "ridge: the penalty has to be positive");
  return fit_with(make_problem(features, labels, classes), lambda);
}

}  // namespace espalier
