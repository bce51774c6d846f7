#include "models/teachers/feature_losses.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include "models/kernels/cosine.h"
#include "models/kernels/tensor_pointers.h"

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Under the square root, so that a zero vector gives cos 0 and a finite gradient.
constexpr double kEpsilon = 1e-8;
constexpr int64_t kRowsPerPiece = 32;  // of work for one thread

struct CosineFoldLoss : torch::autograd::Function<CosineFoldLoss> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& features,
                            const at::Tensor& teacher, int64_t folds) {
    if (kernels::has_kernel_type(features) && kernels::has_kernel_type(teacher)) {
      return forward_on_cpu(ctx, features.contiguous(), teacher.contiguous(), folds);
    }
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
  static at::Tensor forward_on_cpu(AutogradContext* ctx, const at::Tensor& features,
                                   const at::Tensor& teacher, int64_t folds) {
    const at::Tensor gradient = at::empty_like(features);
    // One partial sum per piece of a fixed size: the same bits with any number of threads.
    const int64_t rows = features.size(0);
    const int64_t pieces = (rows + kRowsPerPiece - 1) / kRowsPerPiece;
    std::vector<double> sums(static_cast<size_t>(pieces));
    kernels::with_kernel_type(features.scalar_type(), [&](auto feature_type) {
      kernels::with_kernel_type(teacher.scalar_type(), [&](auto teacher_type) {
        using F = decltype(feature_type);
        using T = decltype(teacher_type);
        const kernels::CosineFold<F, T> work{
            kernels::pointer<F>(features), kernels::pointer<T>(teacher),
            kernels::pointer<F>(gradient), folds,
            features.size(1) / folds,      static_cast<float>(kEpsilon)};
        at::parallel_for(0, pieces, 1, [&](int64_t first, int64_t last) {
          for (int64_t piece = first; piece < last; ++piece) {
            const int64_t begin = piece * kRowsPerPiece;
            sums[static_cast<size_t>(piece)] =
                kernels::cosine_fold(work, begin, std::min(rows, begin + kRowsPerPiece));
          }
        });
      });
    });
    ctx->save_for_backward({gradient});
    return at::scalar_tensor(std::accumulate(sums.begin(), sums.end(), 0.0), at::kFloat);
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
