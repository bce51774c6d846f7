#include "models/masked_autoencoder/masked_patches.h"

#include <gtest/gtest.h>

namespace espalier {
namespace {

constexpr int64_t kSide = 4, kKeep = 5, kImages = 3;

// What it computes is compared with the reference in image_tokenizer_test.cpp.
class MaskedPatchesTest : public testing::Test {
 protected:
  MaskedPatchesTest() {
    torch::manual_seed(8);
    encoder_ = Encoder(/*width=*/6, /*coarse_blocks=*/1);
    masked_ = MaskedPatches(MaskedPatchesOptions{.positions = kSide * kSide,
                                                 .encoder_channels = 12,
                                                 .width = 8,
                                                 .teacher_channels = 20,
                                                 .folds = 4});
    images_ = torch::rand({kImages, 3, 4 * kSide, 4 * kSide}) * 2 - 1;
    patches_ = image_to_patches(images_);
    teacher_ = torch::randn({kImages, kSide * kSide / 4, 20});
    const at::Tensor noise = torch::rand({kImages, kSide * kSide});
    grid_ = make_visible_grid(mask_from_noise(noise, kKeep).visible().contiguous(), kSide);
    is_visible_ =
        torch::zeros({kImages, kSide * kSide, 1}).scatter_(1, grid_.visible.unsqueeze(2), 1);
  }
  MaskedPatchesLosses losses(const at::Tensor& patches) {
    return masked_->losses(encoder_, patches, grid_, teacher_);
  }
  static bool has_gradient(const std::vector<at::Tensor>& parameters) {
    for (const at::Tensor& parameter : parameters) {
      if (parameter.grad().defined() && parameter.grad().abs().sum().item<float>() > 0) return true;
    }
    return false;
  }

  Encoder encoder_{nullptr};
  MaskedPatches masked_{nullptr};
  at::Tensor images_, patches_, teacher_, is_visible_;
  VisibleGrid grid_;
};

TEST_F(MaskedPatchesTest, MaskedPixelsChangeNothingThatTheEncoderGivesForVisiblePatches) {
  const at::Tensor other = torch::where(is_visible_ > 0, patches_, torch::randn_like(patches_));
  EXPECT_TRUE(torch::equal(encoder_->forward_visible(patches_, grid_),
                           encoder_->forward_visible(other, grid_)));
  EXPECT_TRUE(torch::equal(losses(patches_).mimic, losses(other).mimic));
}

TEST_F(MaskedPatchesTest, ReconstructionIsTheSquaredErrorOfMaskedPatchesAlone) {
  const torch::NoGradGuard no_gradient;
  const at::Tensor painted =
      masked_->masked_decoder->forward(encoder_->forward_visible(patches_, grid_), grid_.visible);
  const at::Tensor error = ((painted - patches_).square() * (1 - is_visible_)).sum();
  EXPECT_TRUE(torch::allclose(losses(patches_).reconstruct, error));
}

TEST_F(MaskedPatchesTest, MimicTrainsEncoderAndHeadButNotTheDecoder) {
  losses(patches_).mimic.backward();
  EXPECT_TRUE(has_gradient(encoder_->parameters()));
  EXPECT_TRUE(has_gradient(masked_->mimic_head->parameters()));
  EXPECT_FALSE(has_gradient(masked_->masked_decoder->parameters()));
}

TEST_F(MaskedPatchesTest, ReconstructionTrainsEncoderAndDecoderButNotTheHead) {
  losses(patches_).reconstruct.backward();
  EXPECT_TRUE(has_gradient(encoder_->parameters()));
  EXPECT_TRUE(has_gradient(masked_->masked_decoder->parameters()));
  EXPECT_FALSE(has_gradient(masked_->mimic_head->parameters()));
}

TEST_F(MaskedPatchesTest, MimicOfImagesIsTheHeadAtVisiblePatches) {
  const at::Tensor mimic = masked_->mimic(encoder_, images_, grid_);
  EXPECT_EQ(mimic.sizes(), (std::vector<int64_t>{kImages * kKeep, 20}));
  EXPECT_FALSE(mimic.requires_grad());
  EXPECT_TRUE(torch::equal(
      mimic, masked_->mimic_head->forward(encoder_->forward_visible(patches_, grid_))));
}

// A map of 4 x 4 patches over a teacher's 2 x 2 positions; two images.
TEST(TeacherRows, AreThoseUnderTheVisiblePatches) {
  const at::Tensor visible = torch::tensor({{0, 3, 5}, {15, 8, 6}}, at::kLong);
  EXPECT_TRUE(torch::equal(teacher_rows(visible, 4), torch::tensor({0, 1, 0, 7, 6, 5}, at::kLong)));
}

}  // namespace
}  // namespace espalier
