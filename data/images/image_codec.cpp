#include "data/images/image_codec.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <stdexcept>

#include <png.h>

#include "data/errors.h"
#include "data/images/jpeg_codec.h"
#include "data/images/webp_codec.h"
#include "data/shards/tar_index.h"

namespace espalier {
namespace {

constexpr std::array<uint8_t, 8> kPngMagic = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
constexpr std::array<uint8_t, 3> kJpegMagic = {0xff, 0xd8, 0xff};

template <size_t N>
bool starts_with(std::span<const uint8_t> bytes, const std::array<uint8_t, N>& magic) {
  return bytes.size() >= N && std::equal(magic.begin(), magic.end(), bytes.begin());
}

struct PngReader {
  png_image state{};
  PngReader() { state.version = PNG_IMAGE_VERSION; }
  ~PngReader() { png_image_free(&state); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;
};

void open_png(PngReader& reader, std::span<const uint8_t> bytes, const std::string& name) {
  if (png_image_begin_read_from_memory(&reader.state, bytes.data(), bytes.size()) == 0)
    throw DataError(name + ": damaged PNG header: " + reader.state.message);
}

void check_size(int64_t width, int64_t height, const std::string& name) {
  if (width > 0 && height > 0 && width <= kMaxImageSide && height <= kMaxImageSide &&
      width * height <= kMaxImagePixels)
    return;
  throw DataError(name + ": image of " + std::to_string(width) + " x " + std::to_string(height) +
                  " pixels; at most " + std::to_string(kMaxImageSide) + " per side and " +
                  std::to_string(kMaxImagePixels) + " in all are read");
}

Image decode_png(std::span<const uint8_t> bytes, const std::string& name) {
  PngReader reader;
  open_png(reader, bytes, name);
  check_size(reader.state.width, reader.state.height, name);
  // Without the flag 16-bit files would count as linear light and come out too bright.
  reader.state.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
  reader.state.format = PNG_FORMAT_RGBA;
  std::vector<uint8_t> rgba(PNG_IMAGE_SIZE(reader.state));
  if (png_image_finish_read(&reader.state, nullptr, rgba.data(), 0, nullptr) == 0)
    throw DataError(name + ": damaged PNG: " + reader.state.message);

  return composite_on_white(static_cast<int>(reader.state.width),
                            static_cast<int>(reader.state.height), rgba);
}

[[noreturn]] void throw_unknown_format(std::span<const uint8_t> bytes, const std::string& name) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string start;
  for (const uint8_t byte : bytes.first(std::min<size_t>(bytes.size(), 8)))
    start += {kDigits[byte >> 4], kDigits[byte & 15], ' '};
  throw DataError(name + ": neither PNG, JPEG nor WebP (" + std::to_string(bytes.size()) +
                  " bytes, starting with " + (start.empty() ? "nothing " : start) + "in hex)");
}

void require_consistent(const Image& image) {
  if (image.empty() || image.rgb.size() != size_t{3} * image.width * image.height)
    throw std::invalid_argument("encode_png: the image is empty or sizes do not fit its pixels");
}

}  // namespace

void check_image_header(std::span<const uint8_t> bytes, const std::string& name) {
  if (starts_with(bytes, kPngMagic)) {
    PngReader reader;
    open_png(reader, bytes, name);
    check_size(reader.state.width, reader.state.height, name);
  } else if (starts_with(bytes, kJpegMagic)) {
    const Image size = read_jpeg_header(bytes, name);
    check_size(size.width, size.height, name);
  } else if (is_webp(bytes)) {
    const Image size = read_webp_header(bytes, name);
    check_size(size.width, size.height, name);
  } else {
    throw_unknown_format(bytes, name);
  }
}

Image decode_image(std::span<const uint8_t> bytes, const std::string& name) {
  if (starts_with(bytes, kPngMagic)) return decode_png(bytes, name);
  check_image_header(bytes, name);
  return is_webp(bytes) ? decode_webp(bytes, name) : decode_jpeg(bytes, name);
}

void decode_rgb_png(std::span<const uint8_t> bytes, int64_t width, int64_t height,
                    std::span<uint8_t> rgb, const std::string& name) {
  if (std::ssize(rgb) != 3 * width * height)
    throw std::invalid_argument("decode_rgb_png: the room for pixels does not fit the size");
  if (!starts_with(bytes, kPngMagic))
    throw DataError(name + ": not a PNG (" + std::to_string(bytes.size()) + " bytes)");
  PngReader reader;
  open_png(reader, bytes, name);
  if (reader.state.width != width || reader.state.height != height)
    throw DataError(name + ": a PNG of " + std::to_string(reader.state.width) + " x " +
                    std::to_string(reader.state.height) + " pixels; expected " +
                    std::to_string(width) + " x " + std::to_string(height));
  if (reader.state.format != PNG_FORMAT_RGB)
    throw DataError(name + ": not 8-bit RGB; expected no palette, grey, alpha or 16-bit channels");
  if (png_image_finish_read(&reader.state, nullptr, rgb.data(), 0, nullptr) == 0)
    throw DataError(name + ": damaged PNG: " + reader.state.message);
}

std::vector<uint8_t> encode_png(const Image& image) {
  require_consistent(image);
  PngReader writer;
  writer.state.width = static_cast<png_uint_32>(image.width);
  writer.state.height = static_cast<png_uint_32>(image.height);
  writer.state.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(writer.state);
  std::vector<uint8_t> png(size);
  if (png_image_write_to_memory(&writer.state, png.data(), &size, 0, image.rgb.data(), 0,
                                nullptr) == 0)
    throw std::runtime_error(std::string("encode_png: ") + writer.state.message);
  png.resize(size);
  return png;
}

Image read_image_file(const std::string& path, int size) {
  const ReadOnlyFile file(path);
  // Refused by name rather than by running out of memory.
  if (file.size() > kMaxImagePixels * 8) throw DataError(path + ": too large for an image file");
  Image image = decode_image(file.read(0, file.size()), path);
  return size > 0 ? fit_square(image, size) : image;
}

void write_png(const std::string& path, const Image& image) {
  const std::vector<uint8_t> png = encode_png(image);
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(png.data()), static_cast<std::streamsize>(png.size()));
  out.close();
  if (!out) throw DataError("cannot write " + path + ": " + std::strerror(errno));
}

}  // namespace espalier
