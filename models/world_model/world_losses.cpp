#include "models/world_model/world_losses.h"

#include <torch/torch.h>

#include "models/layers/fused_ops.h"
#include "models/layers/pre_norm_block.h"
#include "models/teachers/feature_losses.h"
#include "models/world_model/image_patches.h"

namespace espalier {
namespace {

constexpr double kVarianceEpsilon = 1e-6;
constexpr double kLogEpsilon = 1e-6;
constexpr double kNormEpsilon = 1e-8;
constexpr double kLeastSilogSquare = 1e-12;  // the square root has infinite slope at 0
constexpr double kPublishedTrajectoryScale = 0.1;

// Losses are made in fp32 (double for a model in double), whatever autocast says.
at::Tensor wide(const at::Tensor& x) { return as_residual(x); }

void check_same(const char* what, const at::Tensor& prediction, const at::Tensor& target) {
  TORCH_CHECK(prediction.sizes() == target.sizes(), what,
              " wants prediction and target alike, got ", prediction.sizes(), " and ",
              target.sizes());
}

// (B, 1, n, n) -> (B, n * n), with the neighbours of what is 1 if `dilate`
at::Tensor region(const at::Tensor& changed, bool dilate) {
  const at::Tensor map = changed.to(at::kFloat);
  return (dilate ? at::max_pool2d(map, {3, 3}, {1, 1}, {1, 1}) : map).flatten(1);
}

at::Tensor unit_rows(const at::Tensor& rows) {
  return rows * (rows.square().sum(1, true) + kNormEpsilon).rsqrt();
}

}  // namespace

at::Tensor normalised_patches(const at::Tensor& images, int64_t patch) {
  const at::Tensor patches = to_patches(wide(images), patch);
  const auto [variance, mean] = at::var_mean(patches, {2}, /*unbiased=*/true, /*keepdim=*/true);
  return (patches - mean) * (variance + kVarianceEpsilon).rsqrt();
}

at::Tensor silog(const at::Tensor& prediction, const at::Tensor& target, double lambda) {
  check_same("silog", prediction, target);
  TORCH_CHECK(prediction.dim() == 2, "silog wants rows (R, n), got ", prediction.sizes());
  const at::Tensor difference =
      (wide(target) + kLogEpsilon).log() - (wide(prediction).clamp_min(0) + kLogEpsilon).log();
  const at::Tensor square = difference.square().mean(1) - lambda * difference.mean(1).square();
  return square.clamp_min(kLeastSilogSquare).sqrt().sum();
}

at::Tensor dynamic_region(const at::Tensor& now, const at::Tensor& future,
                          const DynamicRegionOptions& options) {
  check_same("dynamic_region", now, future);
  TORCH_CHECK(now.dim() == 4 && now.size(2) % options.patch == 0 && now.size(2) == now.size(3),
              "dynamic_region wants frames (B, C, S, S) with S a multiple of ", options.patch,
              ", got ", now.sizes());
  const torch::NoGradGuard no_gradient;
  const at::Tensor change = (wide(now) - wide(future)).abs().amax(1, /*keepdim=*/true);
  const at::Tensor share = at::avg_pool2d(change.gt(options.pixel_threshold).to(at::kFloat),
                                          {options.patch, options.patch});
  return region(share.gt(options.share), options.dilate);
}

at::Tensor motion_region(const at::Tensor& displacement, double threshold, bool dilate) {
  TORCH_CHECK(displacement.dim() == 4 && displacement.size(3) == 2 &&
                  displacement.size(1) == displacement.size(2) && displacement.size(1) % 2 == 0,
              "motion_region wants displacements (B, 2 n, 2 n, 2), got ", displacement.sizes());
  const torch::NoGradGuard no_gradient;
  const at::Tensor mean = at::avg_pool2d(wide(displacement).permute({0, 3, 1, 2}), {2, 2});
  return region(mean.norm(2, 1, /*keepdim=*/true).gt(threshold), dilate);
}

at::Tensor masked_squared_error(const at::Tensor& prediction, const at::Tensor& target,
                                const at::Tensor& mask) {
  check_same("masked_squared_error", prediction, target);
  TORCH_CHECK(prediction.dim() == 3 && mask.sizes() == prediction.sizes().slice(0, 2),
              "masked_squared_error wants (B, N, C) and a mask (B, N), got ", prediction.sizes(),
              " and ", mask.sizes());
  const at::Tensor error = (wide(prediction) - wide(target)).square().sum(2);
  return error.mul(mask).sum();
}

double masked_count(const at::Tensor& mask, int64_t channels, MaskedMean mean) {
  const double patches = mean == MaskedMean::kAllElements ? static_cast<double>(mask.numel())
                                                          : mask.sum().item<double>();
  return patches * static_cast<double>(channels);
}

at::Tensor cosine_distance(const at::Tensor& prediction, const at::Tensor& target) {
  return cosine_fold_loss(prediction, target, 1) * 0.5;  // it counts the row and its one fold
}

at::Tensor info_nce(const at::Tensor& prediction, const at::Tensor& candidates,
                    const at::Tensor& own, double temperature) {
  TORCH_CHECK(prediction.dim() == 2 && candidates.dim() == 2 &&
                  prediction.size(1) == candidates.size(1) && own.dim() == 1 &&
                  own.size(0) == prediction.size(0),
              "info_nce wants predictions (R, C), candidates (M, C) and R indices, got ",
              prediction.sizes(), ", ", candidates.sizes(), " and ", own.sizes());
  TORCH_CHECK(temperature > 0, "info_nce wants a temperature above 0, got ", temperature);
  // Similarities near 1 are what it learns from: bf16 would blur them.
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const at::Tensor targets = unit_rows(wide(candidates.detach()));
  const at::Tensor cosine = at::mm(unit_rows(wide(prediction)), targets.t());
  return cross_entropy_sum(cosine / temperature, own);
}

at::Tensor trajectory_error(const at::Tensor& prediction, const at::Tensor& target,
                            bool published_scale) {
  check_same("trajectory_error", prediction, target);
  const at::Tensor sum = (wide(prediction) - wide(target)).square().sum();
  return published_scale ? sum * kPublishedTrajectoryScale : sum;
}

}  // namespace espalier
