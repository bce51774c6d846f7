#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <jpeglib.h>
#include <png.h>

#include "data/images/image.h"

namespace espalier {

// PNG in any of libpng's in-memory formats (PNG_FORMAT_RGBA, PNG_FORMAT_GRAY, ...).
inline std::vector<uint8_t> png_of(int width, int height, uint32_t format, const void* pixels,
                                   const uint8_t* colours = nullptr, uint32_t colour_count = 0) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<uint32_t>(width);
  image.height = static_cast<uint32_t>(height);
  image.format = format;
  image.colormap_entries = colour_count;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::vector<uint8_t> bytes(size);
  png_image_write_to_memory(&image, bytes.data(), &size, 0, pixels, 0, colours);
  bytes.resize(size);
  return bytes;
}

// A JPEG of quality 95: three channels per pixel, or one, or four (CMYK).
inline std::vector<uint8_t> jpeg_of(int width, int height, int channels,
                                    const std::vector<uint8_t>& pixels) {
  jpeg_compress_struct encoder{};
  jpeg_error_mgr errors{};
  encoder.err = jpeg_std_error(&errors);
  jpeg_create_compress(&encoder);
  unsigned char* out = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&encoder, &out, &size);
  encoder.image_width = static_cast<JDIMENSION>(width);
  encoder.image_height = static_cast<JDIMENSION>(height);
  encoder.input_components = channels;
  encoder.in_color_space = channels == 1 ? JCS_GRAYSCALE : channels == 3 ? JCS_RGB : JCS_CMYK;
  jpeg_set_defaults(&encoder);
  jpeg_set_quality(&encoder, 95, TRUE);
  jpeg_start_compress(&encoder, TRUE);
  while (encoder.next_scanline < encoder.image_height) {
    auto* row = const_cast<uint8_t*>(pixels.data()) +
                static_cast<size_t>(channels) * encoder.next_scanline * encoder.image_width;
    jpeg_write_scanlines(&encoder, &row, 1);
  }
  jpeg_finish_compress(&encoder);
  std::vector<uint8_t> bytes(out, out + size);
  jpeg_destroy_compress(&encoder);
  std::free(out);
  return bytes;
}

// A picture with detail, so that its files are longer than a header.
inline Image test_pattern(int width, int height) {
  Image image = blank_image(width, height);
  for (size_t i = 0; i < image.rgb.size(); ++i)
    image.rgb[i] = static_cast<uint8_t>((i * i * 31 + i * 7) >> 3);
  return image;
}

}  // namespace espalier
