#include "data/images/image_codec.h"

#include <cstdlib>

#include "data/errors.h"
#include "tests/data/test_files.h"
#include "tests/data/test_images.h"

namespace espalier {
namespace {

using Bytes = std::vector<uint8_t>;

std::string error_of(const Bytes& bytes) {
  return message_of<DataError>([&] { decode_image(bytes, "picture"); });
}

TEST(ImageCodec, PngComesBackUnchanged) {
  const Image image = test_pattern(17, 9);
  const Image decoded = decode_image(encode_png(image), "picture");
  EXPECT_EQ(decoded.width, 17);
  EXPECT_EQ(decoded.height, 9);
  EXPECT_EQ(decoded.rgb, image.rgb);
}

TEST(ImageCodec, CompositesAlphaOnWhite) {
  const Bytes rgba = {100, 0, 0, 255, 100, 0, 0, 0, 100, 0, 0, 128};
  const Image image = decode_image(png_of(3, 1, PNG_FORMAT_RGBA, rgba.data()), "picture");
  EXPECT_EQ(image.rgb, (Bytes{100, 0, 0, 255, 255, 255, 177, 127, 127}));
}

TEST(ImageCodec, ReadsGreyPaletteAnd16BitPng) {
  const Bytes grey = {0, 200};
  EXPECT_EQ(decode_image(png_of(2, 1, PNG_FORMAT_GRAY, grey.data()), "p").rgb,
            (Bytes{0, 0, 0, 200, 200, 200}));

  const Bytes colours = {1, 2, 3, 255, 40, 50, 60, 0};
  const Bytes indices = {1, 0};
  EXPECT_EQ(
      decode_image(png_of(2, 1, PNG_FORMAT_RGBA_COLORMAP, indices.data(), colours.data(), 2), "p")
          .rgb,
      (Bytes{255, 255, 255, 1, 2, 3}));
}

TEST(ImageCodec, Reads16BitPngByItsUpperByte) {
  // 1 x 1, grey, 16 bits, value 0x8040: written by Python's zlib and struct.
  const Bytes png = {0x89, 'P',  'N',  'G',  0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d,
                     0x49, 0x48, 0x44, 0x52, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01,
                     0x10, 0x00, 0x00, 0x00, 0x00, 0x6a, 0xee, 0x47, 0x16, 0x00, 0x00, 0x00,
                     0x0b, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0x68, 0x70, 0x00, 0x00,
                     0x01, 0x43, 0x00, 0xc1, 0x5f, 0xd4, 0x95, 0x0d, 0x00, 0x00, 0x00, 0x00,
                     0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82};
  EXPECT_EQ(decode_image(png, "p").rgb, (Bytes{128, 128, 128}));
}

TEST(ImageCodec, ReadsColourAndGreyJpeg) {
  const Image colour = decode_image(jpeg_of(8, 8, 3, blank_image(8, 8, 60).rgb), "picture");
  EXPECT_EQ(colour.width, 8);
  EXPECT_NEAR(colour.rgb[0], 60, 2);
  const Image grey = decode_image(jpeg_of(8, 8, 1, Bytes(64, 90)), "picture");
  EXPECT_NEAR(grey.rgb[0], 90, 2);
  EXPECT_EQ(grey.rgb.size(), 8U * 8 * 3);
}

TEST(ImageCodec, NamesAFileThatIsNoPicture) {
  const std::string text = "<html>not found</html>";
  expect_contains(error_of(Bytes(text.begin(), text.end())),
                  {"picture", "neither PNG, JPEG nor WebP", "22 bytes", "3c 68 74 6d"});
  expect_contains(error_of({}), {"neither PNG, JPEG nor WebP", "0 bytes"});
}

TEST(ImageCodec, RefusesAHugePngHeaderBeforeAskingForMemory) {
  // 60000 x 60000 RGBA would need 14 GB. The header is otherwise sound: its checksum fits.
  const Bytes png = {0x89, 'P',  'N',  'G',  0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d,
                     0x49, 0x48, 0x44, 0x52, 0x00, 0x00, 0xea, 0x60, 0x00, 0x00, 0xea, 0x60,
                     0x08, 0x06, 0x00, 0x00, 0x00, 0x80, 0xd2, 0x75, 0x42, 0x00, 0x00, 0x00,
                     0x0c, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0x60, 0x20, 0x0e, 0x00,
                     0x00, 0x00, 0x28, 0x00, 0x01, 0x35, 0x54, 0x72, 0x84, 0x00, 0x00, 0x00,
                     0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82};
  expect_contains(error_of(png), {"picture", "60000 x 60000", "at most"});
  EXPECT_THROW(check_image_header(png, "picture"), DataError);
}

TEST(ImageCodec, RefusesEveryTruncatedPng) {
  const Bytes whole = encode_png(test_pattern(16, 16));
  for (size_t size = 0; size + 13 < whole.size(); ++size) {  // without IEND all pixels are there
    EXPECT_THROW(
        decode_image(Bytes(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size)), "p"),
        DataError)
        << size << " of " << whole.size();
  }
}

TEST(ImageCodec, RefusesAPngWithAFlippedBit) {
  Bytes bytes = encode_png(test_pattern(16, 16));
  bytes[bytes.size() / 2] ^= 4;
  expect_contains(error_of(bytes), {"picture", "damaged PNG"});
}

TEST(ImageCodec, RefusesATruncatedJpegInsteadOfFillingItWithGrey) {
  const Bytes whole = jpeg_of(64, 64, 3, test_pattern(64, 64).rgb);
  for (const size_t size : {size_t{3}, size_t{100}, whole.size() / 2, whole.size() - 20})
    EXPECT_THROW(
        decode_image(Bytes(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size)), "p"),
        DataError)
        << size;
}

// Adobe's way, which libjpeg writes: how much light each ink leaves.
TEST(ImageCodec, ReadsACmykJpegAsItsInksWouldLook) {
  Bytes red;
  for (int pixel = 0; pixel < 64; ++pixel) red.insert(red.end(), {255, 0, 0, 255});
  const Image image = decode_image(jpeg_of(8, 8, 4, red), "picture");
  for (size_t pixel = 0; pixel < 64; ++pixel) {
    EXPECT_GT(image.rgb[3 * pixel], 245);
    EXPECT_LT(image.rgb[3 * pixel + 1], 10);
    EXPECT_LT(image.rgb[3 * pixel + 2], 10);
  }
}

TEST(ImageCodec, SurvivesRandomDamage) {
  const Bytes png = encode_png(test_pattern(12, 12));
  const Bytes jpeg = jpeg_of(12, 12, 3, test_pattern(12, 12).rgb);
  std::srand(1);
  for (int trial = 0; trial < 2000; ++trial) {
    Bytes bytes = trial % 2 == 0 ? png : jpeg;
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

TEST(ImageCodec, ReadsAndWritesFiles) {
  TemporaryFolder folder;
  const std::string path = folder.file("a.png");
  write_png(path, test_pattern(10, 10));
  EXPECT_EQ(read_image_file(path).rgb, test_pattern(10, 10).rgb);
  EXPECT_EQ(read_image_file(path, 5).width, 5);
}

TEST(ImageCodec, NamesFilesThatCannotBeReadOrWritten) {
  expect_contains(message_of<DataError>([] { read_image_file("/nonexistent/a.png"); }),
                  {"/nonexistent/a.png"});
  expect_contains(message_of<DataError>([] { write_png("/nonexistent/a.png", blank_image(1, 1)); }),
                  {"/nonexistent/a.png"});
}

}  // namespace
}  // namespace espalier
