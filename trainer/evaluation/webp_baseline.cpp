#include "trainer/evaluation/webp_baseline.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "data/images/webp_codec.h"

namespace espalier {
namespace {

struct Attempt {
  int quality = 0;
  std::vector<uint8_t> file;
};

int64_t counted_bytes(const std::vector<uint8_t>& file, WebpBytes counted) {
  const auto bytes = static_cast<int64_t>(file.size());
  return counted == WebpBytes::kFile ? bytes : bytes - kWebpContainerBytes;
}

// Quality 0 where nothing fits.
Attempt best_quality(const Image& image, int64_t max_bytes, WebpBytes counted) {
  Attempt best{0, encode_webp(image, 0)};
  if (counted_bytes(best.file, counted) > max_bytes) return best;
  for (int low = 0, high = 101; high - low > 1;) {  // low fits; high does not or does not exist
    const int quality = (low + high) / 2;
    std::vector<uint8_t> file = encode_webp(image, quality);
    if (counted_bytes(file, counted) <= max_bytes) {
      low = quality;
      best = {quality, std::move(file)};
    } else {
      high = quality;
    }
  }
  return best;
}

int64_t squared_difference(const Image& a, const Image& b) {
  int64_t sum = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i) {
    const int64_t difference = int64_t{a.rgb[i]} - b.rgb[i];
    sum += difference * difference;
  }
  return sum;
}

// Stored at that size, enlarged again after decoding.
WebpWithin attempt_at(const Image& image, int width, int height, int64_t max_bytes,
                      WebpBytes counted) {
  const Attempt attempt = best_quality(resize(image, width, height), max_bytes, counted);
  const auto file_bytes = static_cast<int64_t>(attempt.file.size());
  return {resize(decode_webp(attempt.file, "webp_within"), image.width, image.height),
          attempt.quality,
          width,
          height,
          file_bytes,
          file_bytes - kWebpContainerBytes,
          counted_bytes(attempt.file, counted) <= max_bytes};
}

}  // namespace

WebpWithin webp_within(const Image& image, int64_t max_bytes, WebpBytes counted) {
  WebpWithin best = attempt_at(image, image.width, image.height, max_bytes, counted);
  for (int width = image.width, height = image.height; width > 1 || height > 1;) {
    width = std::max(1, width / 2);
    height = std::max(1, height / 2);
    WebpWithin smaller = attempt_at(image, width, height, max_bytes, counted);
    if (best.fits && (!smaller.fits || squared_difference(smaller.image, image) >=
                                           squared_difference(best.image, image))) {
      break;
    }
    best = std::move(smaller);
  }
  return best;
}

}  // namespace espalier
