#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "data/images/image.h"

namespace espalier {

// Grey, colour and CMYK JPEG by libjpeg-turbo. Unlike the library's default, damaged or missing
// data is an error. Both throw DataError that begins with `name`. decode_image() is the usual way
// in.
Image decode_jpeg(std::span<const uint8_t> bytes, const std::string& name);
Image read_jpeg_header(std::span<const uint8_t> bytes, const std::string& name);  // no pixels

}  // namespace espalier
