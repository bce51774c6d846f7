#include "data/images/webp_codec.h"

#include <cstdlib>

#include "data/errors.h"
#include "data/images/image_codec.h"
#include "tests/data/test_files.h"
#include "tests/data/test_images.h"

namespace espalier {
namespace {

using Bytes = std::vector<uint8_t>;

// 2 x 1, lossless: opaque (10, 200, 30), then (100, 0, 0) at alpha 128. Written by
// WebPEncodeLosslessRGBA and kept here so that the reader meets a file that our writer cannot make.
const Bytes kLosslessWithAlpha = {0x52, 0x49, 0x46, 0x46, 0x24, 0x00, 0x00, 0x00, 0x57, 0x45, 0x42,
                                  0x50, 0x56, 0x50, 0x38, 0x4c, 0x17, 0x00, 0x00, 0x00, 0x2f, 0x01,
                                  0x00, 0x00, 0x10, 0x0f, 0x70, 0x1c, 0xe4, 0x2b, 0x68, 0xdd, 0x43,
                                  0xfc, 0x81, 0xff, 0x91, 0x86, 0x0a, 0x44, 0xf4, 0x3f, 0x00, 0x00};

// Grey levels that change slowly: what a lossy codec keeps.
Image smooth_pattern(int side) {
  Image image = blank_image(side, side);
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < 3 * side; ++x)
      image.rgb[static_cast<size_t>(3 * side * y + x)] = static_cast<uint8_t>(60 + 2 * y + x / 3);
  return image;
}

TEST(WebpCodec, ASmoothPictureComesBackNearly) {
  const Image image = smooth_pattern(32);
  const Image decoded = decode_image(encode_webp(image, 95), "picture");
  ASSERT_EQ(decoded.width, 32);
  ASSERT_EQ(decoded.height, 32);
  for (size_t i = 0; i < image.rgb.size(); ++i) EXPECT_NEAR(decoded.rgb[i], image.rgb[i], 6);
}

TEST(WebpCodec, LowerQualityIsASmallerFile) {
  const Image image = test_pattern(32, 32);
  EXPECT_LT(encode_webp(image, 10).size(), encode_webp(image, 90).size());
  EXPECT_EQ(encode_webp(image, 50), encode_webp(image, 50));
}

TEST(WebpCodec, AFileIsItsContainerAndOneChunkOfLossyData) {
  const Bytes bytes = encode_webp(test_pattern(16, 16), 50);
  const std::string text = text_of(bytes);
  EXPECT_EQ(text.substr(0, 4) + text.substr(8, 8), "RIFFWEBPVP8 ");
  const auto chunk = static_cast<int64_t>(bytes[16] | bytes[17] << 8);
  EXPECT_EQ(static_cast<int64_t>(bytes.size()), kWebpContainerBytes + chunk);
}

TEST(WebpCodec, ReadsLosslessFilesAndCompositesAlphaOnWhite) {
  const Image image = decode_image(kLosslessWithAlpha, "picture");
  EXPECT_EQ(image.width, 2);
  EXPECT_EQ(image.rgb, (Bytes{10, 200, 30, 177, 127, 127}));
}

TEST(WebpCodec, HeaderIsReadWithoutPixels) {
  const Image size = read_webp_header(encode_webp(test_pattern(17, 9), 50), "picture");
  EXPECT_EQ(size.width, 17);
  EXPECT_EQ(size.height, 9);
  EXPECT_TRUE(size.empty());
}

TEST(WebpCodec, RefusesEveryTruncatedFileByName) {
  const Bytes whole = encode_webp(test_pattern(24, 24), 50);
  for (size_t size = 0; size + 1 < whole.size(); ++size) {  // the last byte may be padding
    const Bytes cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    expect_contains(message_of<DataError>([&] { decode_image(cut, "picture"); }), {"picture: "});
  }
}

TEST(WebpCodec, RefusesAnImageBeyondTheSizeLimitBeforeAskingForMemory) {
  Bytes bytes = kLosslessWithAlpha;
  // Width and height of a lossless stream: 14 bits each, less one, behind its signature byte.
  const size_t at = text_of(bytes).find("VP8L") + 9;
  bytes[at] = bytes[at + 1] = bytes[at + 2] = 0xff;
  bytes[at + 3] |= 0x0f;
  expect_contains(message_of<DataError>([&] { check_image_header(bytes, "picture"); }),
                  {"picture", "16384", "at most"});
}

TEST(WebpCodec, SurvivesRandomDamage) {
  const Bytes whole = encode_webp(test_pattern(12, 12), 60);
  std::srand(1);
  for (int trial = 0; trial < 1000; ++trial) {
    Bytes bytes = whole;
    for (int flips = 0; flips < 3; ++flips)
      bytes[static_cast<size_t>(std::rand()) % bytes.size()] ^=
          static_cast<uint8_t>(1 << std::rand() % 8);
    try {
      const Image image = decode_image(bytes, "picture");
      EXPECT_EQ(image.rgb.size(), size_t{3} * image.width * image.height);
    } catch (const DataError&) {  // the other accepted outcome
    }
  }
}

TEST(WebpCodec, RefusesToWriteWhatIsNoPictureOrNoQuality) {
  EXPECT_THROW(encode_webp(Image{}, 50), std::invalid_argument);
  EXPECT_THROW(encode_webp(blank_image(4, 4), 101), std::invalid_argument);
}

}  // namespace
}  // namespace espalier
