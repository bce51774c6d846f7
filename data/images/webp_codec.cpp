#include "data/images/webp_codec.h"

#include <algorithm>
#include <stdexcept>
#include <string_view>

#include <webp/decode.h>
#include <webp/encode.h>

#include "data/errors.h"

namespace espalier {
namespace {

constexpr size_t kSignatureBytes = 12;  // "RIFF", the file's size, "WEBP"

bool has_text(std::span<const uint8_t> bytes, size_t at, std::string_view text) {
  return std::equal(text.begin(), text.end(), bytes.begin() + static_cast<ptrdiff_t>(at));
}

WebPBitstreamFeatures read_features(std::span<const uint8_t> bytes, const std::string& name) {
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(bytes.data(), bytes.size(), &features) != VP8_STATUS_OK)
    throw DataError(name + ": damaged WebP header");
  if (features.has_animation != 0) throw DataError(name + ": animated WebP; only stills are read");
  return features;
}

struct Encoder {
  WebPPicture picture;
  WebPMemoryWriter writer;

  Encoder() {
    if (WebPPictureInit(&picture) == 0) throw std::runtime_error("encode_webp: wrong libwebp");
    WebPMemoryWriterInit(&writer);
    picture.writer = WebPMemoryWrite;
    picture.custom_ptr = &writer;
  }
  ~Encoder() {
    WebPPictureFree(&picture);
    WebPMemoryWriterClear(&writer);
  }
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;
};

WebPConfig config_of(int quality) {
  WebPConfig config;
  if (WebPConfigInit(&config) == 0) throw std::runtime_error("encode_webp: wrong libwebp");
  config.quality = static_cast<float>(quality);
  config.method = 6;
  config.sns_strength = 0;  // moves bits to where the eye looks, away from where the error is
  return config;
}

}  // namespace

bool is_webp(std::span<const uint8_t> bytes) {
  return bytes.size() >= kSignatureBytes && has_text(bytes, 0, "RIFF") &&
         has_text(bytes, 8, "WEBP");
}

Image read_webp_header(std::span<const uint8_t> bytes, const std::string& name) {
  const WebPBitstreamFeatures features = read_features(bytes, name);
  return {features.width, features.height, {}};
}

Image decode_webp(std::span<const uint8_t> bytes, const std::string& name) {
  const WebPBitstreamFeatures features = read_features(bytes, name);
  std::vector<uint8_t> rgba(size_t{4} * features.width * features.height);
  if (WebPDecodeRGBAInto(bytes.data(), bytes.size(), rgba.data(), rgba.size(),
                         4 * features.width) == nullptr)
    throw DataError(name + ": damaged WebP");
  return composite_on_white(features.width, features.height, rgba);
}

std::vector<uint8_t> encode_webp(const Image& image, int quality) {
  if (image.empty() || image.rgb.size() != size_t{3} * image.width * image.height)
    throw std::invalid_argument("encode_webp: the image is empty or sizes do not fit its pixels");
  if (quality < 0 || quality > 100)
    throw std::invalid_argument("encode_webp: quality goes from 0 to 100");
  Encoder encoder;
  encoder.picture.width = image.width;
  encoder.picture.height = image.height;
  const WebPConfig config = config_of(quality);
  if (WebPPictureImportRGB(&encoder.picture, image.rgb.data(), 3 * image.width) == 0 ||
      WebPEncode(&config, &encoder.picture) == 0)
    throw std::runtime_error("encode_webp: libwebp error " +
                             std::to_string(encoder.picture.error_code));
  return {encoder.writer.mem, encoder.writer.mem + encoder.writer.size};
}

}  // namespace espalier
