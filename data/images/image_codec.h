#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/images/image.h"

namespace espalier {

// Larger headers are refused before any pixel memory is asked for.
inline constexpr int kMaxImageSide = 16384;
inline constexpr int64_t kMaxImagePixels = int64_t{64} << 20;

// Decodes PNG, JPEG or WebP, told apart by their first bytes; alpha is composited on white. Throws
// DataError that begins with `name` when the bytes are none, damaged, cut short or too large.
Image decode_image(std::span<const uint8_t> bytes, const std::string& name);

// Reads only the header: format, width and height, against the limits above. Throws DataError.
void check_image_header(std::span<const uint8_t> bytes, const std::string& name);

// Decodes an 8-bit RGB PNG, without palette or alpha, whose size the caller knows: `height` rows of
// `width` pixels go into `rgb`, of height * width * 3 bytes. For strips of frames, whose height may
// be above kMaxImageSide. Throws DataError that begins with `name`; an unfit header is refused
// before any pixel is decoded.
void decode_rgb_png(std::span<const uint8_t> bytes, int64_t width, int64_t height,
                    std::span<uint8_t> rgb, const std::string& name);

std::vector<uint8_t> encode_png(const Image& image);

// size 0 keeps the stored size, otherwise fit_square(). Throws DataError.
Image read_image_file(const std::string& path, int size = 0);
void write_png(const std::string& path, const Image& image);

}  // namespace espalier
