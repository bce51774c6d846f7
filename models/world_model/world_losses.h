#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

// Losses of what a world model dreams (DreamVLA, utils/train_utils.py and utils/sigloss.py). All
// are sums, scalar fp32, so that ranks and slots can add them and divide by one count; which count
// makes the published mean is said at each. Gradient to the prediction only.
namespace espalier {

// Pixels, normalised per patch: (B, C, S, S) -> (B, (S/p)^2, p * p * C), (x - mean) / sqrt(var +
// 1e-6) with the unbiased variance, as the masked autoencoder's norm_pix_loss.
at::Tensor normalised_patches(const at::Tensor& images, int64_t patch);

// Over the rows of (R, n), the sum of the scale-invariant logarithmic error of depth (Eigen et al.
// 2014): sqrt(mean d^2 - lambda (mean d)^2), d = log(target + 1e-6) - log(prediction + 1e-6). It
// does not add up over pixels: R images give the sum of R losses (count R); the published form is
// the whole batch as one row (R = 1), whose value ranks cannot add. A row without error gives 1e-6
// and no gradient, where the published square root gives NaN. Predictions below zero count as zero.
at::Tensor silog(const at::Tensor& prediction, const at::Tensor& target, double lambda = 0.5);

struct DynamicRegionOptions {
  int64_t patch = 8;
  double pixel_threshold = 0.1;  // a pixel changed where a channel differs by more than this
  double share = 0.02;           // a patch changed where more than this share of its pixels did
  bool dilate = false;           // adds the 8 neighbours of a changed patch (3x3)
};
// Which patches change between frames (B, C, S, S): (B, (S/p)^2) fp32, 1 or 0. Stands in for the
// published mask, displacement above 1 pixel of a point tracker's grid (motion_region).
at::Tensor dynamic_region(const at::Tensor& now, const at::Tensor& future,
                          const DynamicRegionOptions& options);
// The published mask: displacements (B, 2 n, 2 n, 2) in pixels, mean of each 2 x 2, 1 where its
// norm exceeds `threshold`: (B, n * n) fp32. Published: threshold 1, dilated for the fixed camera
// alone.
at::Tensor motion_region(const at::Tensor& displacement, double threshold, bool dilate);

// What masked_squared_error is divided by.
enum class MaskedMean {
  kAllElements,     // published: less motion, smaller loss
  kMaskedElements,  // the mean over the mask
};
// Sum of squared errors where mask (B, N) is 1; prediction and target (B, N, C).
at::Tensor masked_squared_error(const at::Tensor& prediction, const at::Tensor& target,
                                const at::Tensor& mask);
// The count for it. kMaskedElements reads the mask on the host.
double masked_count(const at::Tensor& mask, int64_t channels, MaskedMean mean);

// Sum over rows of 1 - cos; (R, C) each. Count R.
at::Tensor cosine_distance(const at::Tensor& prediction, const at::Tensor& target);

// InfoNCE as the paper has it (the code uses the cosine): sum over rows of -log softmax of
// cos(prediction, candidate) / temperature at the row's own candidate. prediction (R, C);
// candidates (M, C) are all targets, of other ranks too if the caller gathered them; own (R) int64
// says which is a row's. Count R. The paper names no temperature. Costs R * M * C multiplications
// and R * M floats.
at::Tensor info_nce(const at::Tensor& prediction, const at::Tensor& candidates,
                    const at::Tensor& own, double temperature);

// Sum of squared errors of displacements, same shapes. Count: elements. The published loss is
// scaled by 0.1 here and again by its weight: `published_scale` does the first.
at::Tensor trajectory_error(const at::Tensor& prediction, const at::Tensor& target,
                            bool published_scale = false);

}  // namespace espalier
