#include "trainer/evaluation/webp_baseline.h"

#include <gtest/gtest.h>

#include "data/images/webp_codec.h"

namespace espalier {
namespace {

// Detail at every scale, so that quality costs bytes.
Image noisy_pattern(int side) {
  Image image = blank_image(side, side);
  for (size_t i = 0; i < image.rgb.size(); ++i) {
    image.rgb[i] = static_cast<uint8_t>((i * i * 31 + i * 7) >> 3);
  }
  return image;
}

int64_t file_bytes(const Image& image, int quality) {
  return static_cast<int64_t>(encode_webp(image, quality).size());
}

TEST(WebpWithin, TakesTheBestQualityOfWhichTheFileFits) {
  const Image image = noisy_pattern(32);
  const WebpWithin result = webp_within(image, file_bytes(image, 40));
  EXPECT_TRUE(result.fits);
  EXPECT_GE(result.quality, 40);
  EXPECT_LE(result.file_bytes, file_bytes(image, 40));
  EXPECT_GT(file_bytes(image, result.quality + 1), file_bytes(image, 40));
  EXPECT_EQ(result.file_bytes, file_bytes(image, result.quality));
  EXPECT_EQ(result.width, 32);
}

TEST(WebpWithin, AnAmpleBudgetGivesTheHighestQuality) {
  EXPECT_EQ(webp_within(noisy_pattern(16), 1 << 20).quality, 100);
}

TEST(WebpWithin, ThePayloadAloneIsTheFileWithoutItsContainer) {
  const Image image = noisy_pattern(32);
  const WebpWithin file = webp_within(image, 500, WebpBytes::kFile);
  const WebpWithin payload = webp_within(image, 500, WebpBytes::kPayload);
  EXPECT_EQ(payload.file_bytes, payload.payload_bytes + 20);
  EXPECT_LE(file.file_bytes, 500);
  EXPECT_LE(payload.payload_bytes, 500);
  EXPECT_GE(payload.quality, file.quality);
}

TEST(WebpWithin, ABudgetBelowQualityZeroIsMetWithFewerPixels) {
  const Image image = noisy_pattern(32);
  const WebpWithin result = webp_within(image, file_bytes(image, 0) - 1);
  EXPECT_TRUE(result.fits);
  EXPECT_LT(result.width, 32);
  EXPECT_LE(result.file_bytes, file_bytes(image, 0) - 1);
  EXPECT_EQ(result.image.width, 32);
  EXPECT_EQ(result.image.height, 32);
}

TEST(WebpWithin, SaysSoWhenNothingFits) {
  const WebpWithin result = webp_within(noisy_pattern(8), 10);
  EXPECT_FALSE(result.fits);
  EXPECT_EQ(result.width, 1);
  EXPECT_EQ(result.quality, 0);
  EXPECT_GT(result.file_bytes, 10);
  EXPECT_EQ(result.image.width, 8);
}

}  // namespace
}  // namespace espalier
