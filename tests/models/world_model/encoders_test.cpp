#include <gtest/gtest.h>

#include "models/world_model/image_patches.h"
#include "models/world_model/instruction_encoder.h"
#include "models/world_model/sincos_positions.h"
#include "tests/models/close.h"
#include "tests/models/finite_differences.h"

namespace espalier {
namespace {

TEST(SincosPositions, AreThoseOfTheMaskedAutoencoder) {
  const at::Tensor expected =
      torch::tensor({{0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0},
                     {.841471, .01, .540302, .99995, 0.0, 0.0, 1.0, 1.0},
                     {0.0, 0.0, 1.0, 1.0, .841471, .01, .540302, .99995},
                     {.841471, .01, .540302, .99995, .841471, .01, .540302, .99995}});
  EXPECT_TRUE(torch::allclose(sincos_positions(2, 2, 8), expected.to(torch::kFloat), 0, 1e-6));
  // ViT-B's table: 196 patches of width 768.
  const at::Tensor table = sincos_positions(196, 768);
  EXPECT_TRUE(torch::allclose(table.square().sum(1), torch::full({196}, 384.0), 1e-5));
  EXPECT_NEAR(table.sum().item<double>(), 69594.49, 0.5);
  EXPECT_EQ(sincos_positions(3, 8).sizes(), (std::vector<int64_t>{3, 8}));
}

TEST(Patches, HoldPixelsRowByRowWithTheirChannelsTogether) {
  const at::Tensor images = torch::arange(2 * 3 * 4 * 4, torch::kFloat).view({2, 3, 4, 4});
  const at::Tensor patches = to_patches(images, 2);
  EXPECT_EQ(patches.sizes(), (std::vector<int64_t>{2, 4, 12}));
  // Patch 1 of image 0 is its upper right; its second pixel is row 0, column 3.
  EXPECT_TRUE(torch::equal(patches[0][1].slice(0, 3, 6), torch::tensor({3.0f, 19.0f, 35.0f})));
  EXPECT_TRUE(torch::equal(from_patches(patches, 2), images));
}

ImagePatchesOptions small_images(int64_t blocks) {
  return {.image_size = 16, .patch = 8, .width = 32, .blocks = blocks, .heads = 2, .mlp_width = 64};
}

TEST(ImagePatches, GradientsAreFiniteDifferencesWithAndWithoutBlocks) {
  for (const int64_t blocks : {0, 1}) {
    torch::manual_seed(6);
    ImagePatches encoder(small_images(blocks));
    encoder->to(torch::kDouble);
    torch::nn::init::normal_(encoder->pool);
    const auto images = torch::rand({2, 3, 16, 16}, torch::kDouble);
    const auto to = torch::randn({2, 5, 32}, torch::kDouble);
    expect_finite_differences(encoder->parameters(), [&] {
      const ImageFeatures features = encoder->forward(images);
      return (torch::cat({features.patches, features.class_token.unsqueeze(1)}, 1) * to).sum();
    });
  }
}

TEST(ImagePatches, ClassTokenStartsAsTheMeanAndImagesDoNotSeeEachOther) {
  torch::manual_seed(7);
  ImagePatches encoder(small_images(2));
  const auto images = torch::rand({3, 3, 16, 16});
  const ImageFeatures features = encoder->forward(images);
  EXPECT_EQ(features.patches.sizes(), (std::vector<int64_t>{3, 4, 32}));
  EXPECT_TRUE(torch::allclose(features.class_token, features.patches.mean(1), 1e-5, 1e-6));
  const ImageFeatures alone = encoder->forward(images.slice(0, 1, 2));
  EXPECT_TRUE(are_close(alone.patches[0], features.patches[1], 1e-6));
}

class InstructionEncoderTest : public testing::Test {
 protected:
  InstructionEncoderTest() { torch::manual_seed(8); }
  InstructionEncoder encoder_{InstructionEncoderOptions{
      .vocabulary_size = 11, .longest = 6, .width = 32, .heads = 2, .mlp_width = 64}};
};

TEST_F(InstructionEncoderTest, IgnoresPaddingAndTheOtherInstructions) {
  const auto ids = torch::tensor({{3, 5, 7, -1, 99}, {1, 2, 3, 4, 5}}, torch::kLong);
  const at::Tensor out = encoder_->forward(ids, {3, 5});
  EXPECT_EQ(out.sizes(), (std::vector<int64_t>{2, 32}));
  const at::Tensor alone = encoder_->forward(torch::tensor({{3, 5, 7}}, torch::kLong), {3});
  EXPECT_TRUE(are_close(alone[0], out[0], 1e-6));
  const at::Tensor turned = encoder_->forward(torch::tensor({{7, 5, 3}}, torch::kLong), {3});
  EXPECT_FALSE(torch::allclose(turned, alone)) << "the order of words says nothing";
}

TEST_F(InstructionEncoderTest, GradientsAreFiniteDifferences) {
  encoder_->to(torch::kDouble);
  const auto ids = torch::tensor({{3, 5, 0}, {1, 2, 3}}, torch::kLong);
  const auto to = torch::randn({2, 32}, torch::kDouble);
  expect_finite_differences(encoder_->parameters(), [&] {
    return (encoder_->forward(ids, {2, 3}) * to).sum();
  });
}

TEST_F(InstructionEncoderTest, NamesTheInstructionWhoseLengthIsWrong) {
  try {
    encoder_->forward(torch::zeros({2, 3}, torch::kLong), {3, 0});
    FAIL() << "no error";
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    EXPECT_NE(message.find("instruction 1 has 0 words, expected 1 to 3"), std::string::npos)
        << message;
  }
}

}  // namespace
}  // namespace espalier
