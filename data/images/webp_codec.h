#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/images/image.h"

namespace espalier {

// What a lossy WebP file spends on its container: the RIFF header (12 bytes) and the header of its
// one chunk (8). A codec for pictures of one known kind could leave it out.
inline constexpr int64_t kWebpContainerBytes = 20;

// A still WebP by libwebp. Damaged or missing data is an error, and so is an animation; alpha is
// composited on white. Both throw DataError that begins with `name`. decode_image() is the usual
// way in.
Image decode_webp(std::span<const uint8_t> bytes, const std::string& name);
Image read_webp_header(std::span<const uint8_t> bytes, const std::string& name);  // no pixels

bool is_webp(std::span<const uint8_t> bytes);  // by its signature

// A lossy file, quality 0 (smallest) to 100, at libwebp's slowest setting and tuned for squared
// error rather than for the eye.
std::vector<uint8_t> encode_webp(const Image& image, int quality);

}  // namespace espalier
