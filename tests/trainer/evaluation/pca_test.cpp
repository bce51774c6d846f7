#include "trainer/evaluation/pca.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "trainer/evaluation/image_quality.h"

namespace espalier {
namespace {

// Images of two pixels along one direction: t (0.6, 0.8), t from -1 to 1.
at::Tensor images_on_a_line() {
  return at::linspace(-1, 1, 21).view({21, 1, 1, 1}) *
         torch::tensor({0.6F, 0.8F}).view({1, 1, 1, 2});
}

TEST(PcaCodec, OneComponentKeepsImagesOnALineUpToItsLevels) {
  const PcaCodec codec(images_on_a_line(), 1);
  EXPECT_EQ(codec.bytes_per_image(), 1);
  const at::Tensor back = codec.reconstruct(images_on_a_line());
  EXPECT_EQ(back.sizes(), images_on_a_line().sizes());
  // 256 levels across a span of 2: at most half a step of 2 / 255 away.
  EXPECT_LE((back - images_on_a_line()).flatten(1).norm(2, 1).max().item<double>(),
            1.0 / 255 + 1e-5);
  // The ends of the span are levels themselves.
  EXPECT_TRUE(at::allclose(back[0], images_on_a_line()[0], 0, 1e-5));
  EXPECT_TRUE(at::allclose(back[20], images_on_a_line()[20], 0, 1e-5));
}

TEST(PcaCodec, WhatNoComponentSeesIsLost) {
  const at::Tensor across = torch::tensor({0.4F, -0.3F}).view({1, 1, 1, 2});
  const PcaCodec codec(images_on_a_line(), 1);
  const at::Tensor error = squared_error_of_images(codec.reconstruct(across), across);
  EXPECT_NEAR(error.item<double>(), (0.16 + 0.09) / 2, 1e-3);
}

TEST(PcaCodec, ImagesBeyondTheTrainingSpanEndAtIt) {
  const at::Tensor bright = torch::tensor({1.2F, 1.6F}).view({1, 1, 1, 2});
  const at::Tensor back = PcaCodec(images_on_a_line(), 1).reconstruct(bright);
  EXPECT_TRUE(at::allclose(back.flatten(), torch::tensor({0.6F, 0.8F}), 0, 1e-5));
}

TEST(PcaCodec, ComponentsAreThoseOfMostVariance) {
  torch::manual_seed(5);
  const at::Tensor spread = at::logspace(-0.5, -2.5, 30);
  const at::Tensor images = at::randn({80, 30}) * spread;
  const at::Tensor centred = (images - images.mean(0)).to(at::kDouble);
  const at::Tensor eigenvalues =
      std::get<0>(at::linalg_eigh(at::mm(centred.t(), centred)));  // ascending
  const double best = eigenvalues.narrow(0, 0, 25).sum().item<double>() / (80.0 * 30);

  const at::Tensor back = PcaCodec(images, 5).reconstruct(images);
  const double error = squared_error_of_images(back, images).mean().item<double>();

  EXPECT_GE(error, 0.999 * best);
  EXPECT_LE(error, 1.03 * best);  // and the rounding to 256 levels
}

TEST(PcaCodec, IsTheSameAtEveryCall) {
  torch::manual_seed(6);
  const at::Tensor images = at::rand({40, 12}) * 2 - 1;
  EXPECT_TRUE(
      PcaCodec(images, 3).reconstruct(images).equal(PcaCodec(images, 3).reconstruct(images)));
}

TEST(PcaCodec, HasNoMoreComponentsThanThereAreValues) {
  EXPECT_EQ(PcaCodec(images_on_a_line(), 9).bytes_per_image(), 2);
}

}  // namespace
}  // namespace espalier
