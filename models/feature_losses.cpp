#include "models/feature_losses.h"

#include <torch/torch.h>

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Under the square root, so that a zero vector gives cos 0 and a finite gradient.
constexpr double kEpsilon = 1e-8;

struct CosineFoldLoss : torch::autograd::Function<CosineFoldLoss> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& features,
                            const at::Tensor& teacher, int64_t folds) {
    const int64_t rows = features.size(0);
    const at::Tensor f = features.to(at::kFloat).view({rows, folds, -1});
    const at::Tensor t = teacher.to(at::kFloat).view({rows, folds, -1});
    const at::Tensor dot = f.mul(t).sum(2), ff = f.square().sum(2), tt = t.square().sum(2);
    const at::Tensor whole_dot = dot.sum(1, true), whole_ff = ff.sum(1, true);
    const at::Tensor scale = ff.mul(tt).add_(kEpsilon).rsqrt_();  // (rows, folds)
    const at::Tensor whole_tt = tt.sum(1, true);
    const at::Tensor whole_scale = whole_ff.mul(whole_tt).add_(kEpsilon).rsqrt_();
    const double weight = 1.0 / static_cast<double>(folds);
    const at::Tensor loss = (2.0 * static_cast<double>(rows)) -
                            (whole_dot.mul(whole_scale).sum() + dot.mul(scale).sum() * weight);
    // d cos / d f = scale t - dot scale^3 tt f, for the whole row and for each piece.
    const at::Tensor of_teacher = (scale * weight + whole_scale).unsqueeze(2);
    const at::Tensor of_features =
        (dot * scale.pow(3) * tt * weight + whole_dot * whole_scale.pow(3) * whole_tt).unsqueeze(2);
    at::Tensor gradient = f.mul(of_features).addcmul_(t, of_teacher, -1);
    ctx->save_for_backward({gradient.view_as(features).to(features.scalar_type())});
    return loss;
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const at::Tensor gradient = ctx->get_saved_variables()[0];
    return {gradient * gradients[0].to(gradient.scalar_type()), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor cosine_fold_loss(const at::Tensor& features, const at::Tensor& teacher, int64_t folds) {
  TORCH_CHECK(
      features.dim() == 2 && features.sizes() == teacher.sizes() && features.size(1) % folds == 0,
      "cannot compare features ", features.sizes(), " with teacher ", teacher.sizes(), " in ",
      folds, " folds");
  return CosineFoldLoss::apply(features, teacher, folds);
}

at::Tensor cosine_of_rows(const at::Tensor& features, const at::Tensor& teacher) {
  const torch::NoGradGuard no_gradient;
  const at::Tensor f = features.to(at::kFloat), t = teacher.to(at::kFloat);
  return f.mul(t).sum(-1) * f.square().sum(-1).mul_(t.square().sum(-1)).add_(kEpsilon).rsqrt_();
}

}  // namespace espalier
