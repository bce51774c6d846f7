#include "trainer/evaluation/image_quality.h"

#include <torch/torch.h>

#include <cmath>
#include <vector>

#include "trainer/evaluation/standard_error.h"

namespace espalier {
namespace {

double psnr_db(double squared_error, double peak) {
  return 10.0 * std::log10(peak * peak / squared_error);
}

}  // namespace

at::Tensor squared_error_of_images(const at::Tensor& a, const at::Tensor& b) {
  const torch::NoGradGuard no_gradient;
  TORCH_CHECK(a.sizes() == b.sizes(), "images of different shapes have no squared error");
  return (a.to(at::kFloat) - b.to(at::kFloat))
      .to(at::kDouble)
      .square_()
      .flatten(1)
      .mean(1)
      .to(at::kCPU);
}

ImageQuality image_quality(const at::Tensor& squared_error, double peak) {
  ImageQuality quality;
  quality.images = squared_error.numel();
  if (quality.images == 0) return quality;
  const at::Tensor errors = squared_error.to(at::kCPU, at::kDouble).flatten().contiguous();
  const double* values = errors.const_data_ptr<double>();
  std::vector<double> each;
  double total = 0;
  double total_db = 0;
  for (int64_t i = 0; i < quality.images; ++i) {
    total += values[i];
    if (values[i] == 0) continue;
    each.push_back(psnr_db(values[i], peak));
    total_db += each.back();
  }
  const auto n = static_cast<double>(quality.images);
  quality.exact_share = (n - static_cast<double>(each.size())) / n;
  if (each.empty()) return quality;
  quality.psnr_db = total_db / static_cast<double>(each.size());
  quality.psnr_db_standard_error = standard_error_of_mean(each);
  quality.psnr_db_of_mean_error = psnr_db(total / n, peak);
  return quality;
}

}  // namespace espalier
