#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "trainer/evaluation/section.h"

namespace espalier {

// Of images a and b (N, ...): the mean of (a - b)² over the values of each, (N) fp64 on CPU.
at::Tensor squared_error_of_images(const at::Tensor& a, const at::Tensor& b);

// How near pictures come to the ones they should be. An exact copy has no PSNR, as its error is 0:
// copies are counted by themselves and left out of the mean, so that no made-up ceiling enters it.
struct ImageQuality {
  int64_t images = 0;
  double exact_share = kUnknown;  // of images that are equal to the last bit
  // PSNR of each other image, then their mean; unknown when all are exact.
  double psnr_db = kUnknown;
  double psnr_db_standard_error = kUnknown;
  // Of the mean error of all images, exact ones too: lower, because hard images weigh more. Unknown
  // when all are exact.
  double psnr_db_of_mean_error = kUnknown;
};

// From one squared error per image. `peak` is the span of the values: 2 for images in [-1, 1].
ImageQuality image_quality(const at::Tensor& squared_error, double peak = 2.0);

}  // namespace espalier
