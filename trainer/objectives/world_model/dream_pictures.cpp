#include "trainer/objectives/world_model/dream_pictures.h"

#include <torch/torch.h>

#include "models/world_model/image_patches.h"
#include "trainer/named/image_set.h"

namespace espalier {
namespace {

constexpr double kLeastVariance = 1e-6;  // as normalised_patches() has it
constexpr double kLevels = 255.0;

}  // namespace

at::Tensor frame_values(const at::Tensor& levels) {
  return levels.to(at::kFloat) * (2.0 / kLevels) - 1.0;
}

at::Tensor region_between(const WorldModelObjective& objective, const at::Tensor& now,
                          const at::Tensor& future) {
  const WorldModelObjectiveSettings& settings = objective.settings();
  return dynamic_region(now.to(at::kFloat) / kLevels, future.to(at::kFloat) / kLevels,
                        {.patch = objective.model().settings().patch,
                         .pixel_threshold = settings.pixel_threshold,
                         .share = settings.region_share,
                         .dilate = settings.dilate});
}

at::Tensor paint_dream(const WorldModelObjective& objective, const at::Tensor& now,
                       const at::Tensor& dreamt, const at::Tensor& region) {
  const int64_t patch = objective.model().settings().patch;
  const at::Tensor present = to_patches(frame_values(now), patch);
  at::Tensor pixels = dreamt.to(at::kFloat);
  if (objective.settings().normalise_patches) {
    const auto [variance, mean] = at::var_mean(present, {2}, /*unbiased=*/true, /*keepdim=*/true);
    pixels = pixels * (variance + kLeastVariance).sqrt() + mean;
  }
  return from_patches(at::where(region.unsqueeze(2).gt(0), pixels, present), patch)
      .clamp(-1.0, 1.0);
}

std::vector<Image> depth_images(const at::Tensor& depth, double farthest) {
  const at::Tensor light = 1.0 - 2.0 * (depth.to(at::kFloat) / farthest).clamp(0.0, 1.0);
  return tensor_to_images(light.unsqueeze(1).expand({-1, 3, -1, -1}).contiguous());
}

}  // namespace espalier
