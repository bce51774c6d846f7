#include "data/images/jpeg_codec.h"

#include <csetjmp>
#include <cstdio>
#include <vector>

#include <jpeglib.h>

#include "data/errors.h"

namespace espalier {
namespace {

struct ErrorManager {
  jpeg_error_mgr base;  // first, so that libjpeg's pointer to it is a pointer to this
  std::jmp_buf jump;
  char text[JMSG_LENGTH_MAX];
};

[[noreturn]] void on_error(j_common_ptr decoder) {
  auto* errors = reinterpret_cast<ErrorManager*>(decoder->err);
  errors->base.format_message(decoder, errors->text);
  std::longjmp(errors->jump, 1);
}

// Level -1 is a warning: data is damaged or missing and libjpeg would make up the rest.
void on_message(j_common_ptr decoder, int level) {
  if (level < 0) on_error(decoder);
}

struct Decoder {
  jpeg_decompress_struct state{};
  ErrorManager errors{};

  explicit Decoder(std::span<const uint8_t> bytes) : bytes_(bytes) {
    state.err = jpeg_std_error(&errors.base);
    errors.base.error_exit = on_error;
    errors.base.emit_message = on_message;
  }
  ~Decoder() { jpeg_destroy_decompress(&state); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  // longjmp skips destructors, so the three functions below hold only trivial objects. They return
  // false on error, with the reason in errors.text.
  bool read_header() {
    if (setjmp(errors.jump) != 0) return false;
    jpeg_create_decompress(&state);
    jpeg_mem_src(&state, bytes_.data(), bytes_.size());
    jpeg_read_header(&state, TRUE);
    state.out_color_space = is_cmyk() ? JCS_CMYK : JCS_RGB;
    return true;
  }

  // Pictures made for print; libjpeg does not turn these into RGB.
  bool is_cmyk() const {
    return state.jpeg_color_space == JCS_CMYK || state.jpeg_color_space == JCS_YCCK;
  }
  size_t channels() const { return is_cmyk() ? 4 : 3; }

  // height * width * channels() bytes.
  bool read_pixels(uint8_t* pixels) {
    if (setjmp(errors.jump) != 0) return false;
    jpeg_start_decompress(&state);
    const size_t stride = channels() * state.output_width;
    while (state.output_scanline < state.output_height) {
      JSAMPROW row = pixels + stride * state.output_scanline;
      jpeg_read_scanlines(&state, &row, 1);
    }
    jpeg_finish_decompress(&state);
    return true;
  }

 private:
  std::span<const uint8_t> bytes_;
};

void read_header(Decoder& decoder, const std::string& name) {
  if (!decoder.read_header())
    throw DataError(name + ": damaged JPEG header: " + decoder.errors.text);
}

// Without a colour profile: the paper's white less what each ink takes away. Adobe stores how much
// light is left, others how much ink there is.
void cmyk_to_rgb(const std::vector<uint8_t>& cmyk, bool is_light, std::vector<uint8_t>& rgb) {
  for (size_t pixel = 0; pixel < cmyk.size() / 4; ++pixel) {
    const auto light = [&](size_t ink) {
      const int stored = cmyk[4 * pixel + ink];
      return is_light ? stored : 255 - stored;
    };
    for (size_t ink = 0; ink < 3; ++ink) {
      rgb[3 * pixel + ink] = static_cast<uint8_t>((light(ink) * light(3) + 127) / 255);
    }
  }
}

Image size_of(const Decoder& decoder) {
  return {static_cast<int>(decoder.state.image_width),
          static_cast<int>(decoder.state.image_height),
          {}};
}

}  // namespace

Image read_jpeg_header(std::span<const uint8_t> bytes, const std::string& name) {
  Decoder decoder(bytes);
  read_header(decoder, name);
  return size_of(decoder);
}

Image decode_jpeg(std::span<const uint8_t> bytes, const std::string& name) {
  Decoder decoder(bytes);
  read_header(decoder, name);
  const Image size = size_of(decoder);
  Image image = blank_image(size.width, size.height);
  std::vector<uint8_t> cmyk(decoder.is_cmyk() ? image.rgb.size() / 3 * 4 : 0);
  if (!decoder.read_pixels(cmyk.empty() ? image.rgb.data() : cmyk.data()))
    throw DataError(name + ": damaged JPEG: " + decoder.errors.text);
  if (!cmyk.empty()) cmyk_to_rgb(cmyk, decoder.state.saw_Adobe_marker != 0, image.rgb);
  return image;
}

}  // namespace espalier
