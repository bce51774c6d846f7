#include "trainer/evaluation/image_quality.h"

#include <cmath>

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace espalier {
namespace {

TEST(ImageQuality, SquaredErrorIsTheMeanOverTheValuesOfEachImage) {
  const at::Tensor a = torch::tensor({0.0F, 1.0F, 0.5F, 0.5F}).view({2, 1, 1, 2});
  const at::Tensor b = torch::tensor({0.0F, 0.0F, 0.5F, 0.5F}).view({2, 1, 1, 2});
  EXPECT_TRUE(squared_error_of_images(a, b).equal(torch::tensor({0.5, 0.0}, at::kDouble)));
}

TEST(ImageQuality, PsnrIsOfEachImageAndThenTheMean) {
  // Span 2: errors of 0.04 and 0.0004 are 20 and 40 dB.
  const ImageQuality quality = image_quality(torch::tensor({0.04, 0.0004}, at::kDouble));
  EXPECT_NEAR(quality.psnr_db, 30, 1e-9);
  EXPECT_NEAR(quality.psnr_db_standard_error, 10, 1e-9);
  EXPECT_NEAR(quality.psnr_db_of_mean_error, 10 * std::log10(4 / 0.0202), 1e-9);
  EXPECT_EQ(quality.exact_share, 0);
  EXPECT_EQ(quality.images, 2);
}

TEST(ImageQuality, ExactCopiesAreCountedAndEnterNoMeanOfDecibels) {
  const ImageQuality quality = image_quality(torch::tensor({0.04, 0.0, 0.0004, 0.0}, at::kDouble));
  EXPECT_EQ(quality.exact_share, 0.5);
  EXPECT_NEAR(quality.psnr_db, 30, 1e-9);
  EXPECT_NEAR(quality.psnr_db_of_mean_error, 10 * std::log10(4 / 0.0101), 1e-9);
}

TEST(ImageQuality, OfNothingButExactCopiesNoDecibelsAreKnown) {
  const ImageQuality quality = image_quality(torch::zeros({3}, at::kDouble));
  EXPECT_EQ(quality.exact_share, 1);
  EXPECT_TRUE(std::isnan(quality.psnr_db));
  EXPECT_TRUE(std::isnan(quality.psnr_db_of_mean_error));
}

TEST(ImageQuality, OfNoImagesNothingIsKnown) {
  const ImageQuality quality = image_quality(torch::zeros({0}, at::kDouble));
  EXPECT_EQ(quality.images, 0);
  EXPECT_TRUE(std::isnan(quality.exact_share));
  EXPECT_TRUE(std::isnan(quality.psnr_db));
}

TEST(ImageQuality, BytesAreMeasuredByTheirOwnSpan) {
  EXPECT_NEAR(image_quality(torch::tensor({650.25}, at::kDouble), 255).psnr_db, 20, 1e-9);
}

}  // namespace
}  // namespace espalier
