#pragma once

#include <cstdint>

#include "data/images/image.h"

namespace espalier {

// What WebP makes of an image when a file may have so many bytes.
struct WebpWithin {
  Image image;                // as decoded, at the size of the original
  int quality = 0;            // 0 to 100
  int width = 0, height = 0;  // at which it was stored
  int64_t file_bytes = 0;     // of the whole file
  int64_t payload_bytes = 0;  // without the container: kWebpContainerBytes fewer
  bool fits = false;          // false: even the smallest file is larger than the budget
};

// What of a file counts against the budget. A codec for images of one known size needs no
// container, so the payload alone is the stronger baseline.
enum class WebpBytes { kFile, kPayload };

// The highest quality whose bytes are within `max_bytes`, found by bisection: at the image's own
// size or at a half of it, a quarter and so on, enlarged after decoding, whichever has the least
// squared error. Few bytes are better spent on fewer pixels, and often quality 0 of all pixels does
// not fit at all. Where nothing fits, it is the smallest file there is, with fits = false.
WebpWithin webp_within(const Image& image, int64_t max_bytes, WebpBytes counted = WebpBytes::kFile);

}  // namespace espalier
