#include "data/images/image.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace espalier {
namespace {

// Weights of the source pixels first, first+1, ... that make up one target pixel; they sum to 1.
struct Tap {
  int first = 0;
  std::vector<float> weights;
};

Tap area_tap(int target, double scale, int length) {
  const double begin = target * scale;
  const double end = std::min<double>(begin + scale, length);
  Tap tap{static_cast<int>(begin), {}};
  for (int i = tap.first; i < end; ++i) {
    const double covered = std::min<double>(i + 1, end) - std::max<double>(i, begin);
    if (covered > 0) tap.weights.push_back(static_cast<float>(covered / (end - begin)));
  }
  return tap;
}

Tap linear_tap(int target, double scale, int length) {
  // Pixel centres lie at i + 0.5; beyond the outermost centres the border pixel is repeated.
  const double at = std::clamp((target + 0.5) * scale - 0.5, 0.0, length - 1.0);
  const int first = std::min(static_cast<int>(at), std::max(0, length - 2));
  const auto right = static_cast<float>(at - first);
  if (length == 1) return {0, {1.0F}};
  return {first, {1.0F - right, right}};
}

std::vector<Tap> taps(int from, int to) {
  const double scale = static_cast<double>(from) / to;
  std::vector<Tap> all;
  all.reserve(to);
  for (int i = 0; i < to; ++i)
    all.push_back(scale > 1 ? area_tap(i, scale, from) : linear_tap(i, scale, from));
  return all;
}

void require_pixels(const Image& image, int width, int height) {
  const auto expected = size_t{3} * static_cast<size_t>(image.width) * image.height;
  if (image.width < 1 || image.height < 1 || image.rgb.size() != expected)
    throw std::invalid_argument("resize: the image is empty or its sizes do not fit its pixels");
  if (width < 1 || height < 1) throw std::invalid_argument("resize: target size below 1 pixel");
}

}  // namespace

Image blank_image(int width, int height, uint8_t level) {
  return {width, height, std::vector<uint8_t>(size_t{3} * width * height, level)};
}

Image composite_on_white(int width, int height, const std::vector<uint8_t>& rgba) {
  Image image = blank_image(width, height);
  if (rgba.size() / 4 != image.rgb.size() / 3)
    throw std::invalid_argument("composite_on_white: the sizes do not fit the pixels");
  for (size_t pixel = 0; pixel < rgba.size() / 4; ++pixel) {
    const uint8_t* from = rgba.data() + 4 * pixel;
    const int alpha = from[3];
    for (size_t channel = 0; channel < 3; ++channel) {
      image.rgb[3 * pixel + channel] =
          static_cast<uint8_t>((from[channel] * alpha + 255 * (255 - alpha) + 127) / 255);
    }
  }
  return image;
}

Image resize(const Image& image, int width, int height) {
  require_pixels(image, width, height);
  if (image.width == width && image.height == height) return image;

  // Rows first, in float, so that rounding happens once.
  const std::vector<Tap> columns = taps(image.width, width);
  std::vector<float> narrow(size_t{3} * width * image.height);
  for (int y = 0; y < image.height; ++y) {
    const uint8_t* row = image.rgb.data() + size_t{3} * y * image.width;
    float* out = narrow.data() + size_t{3} * y * width;
    for (const Tap& tap : columns) {
      for (int channel = 0; channel < 3; ++channel) {
        float sum = 0;
        for (size_t i = 0; i < tap.weights.size(); ++i)
          sum += tap.weights[i] * static_cast<float>(row[3 * (tap.first + i) + channel]);
        *out++ = sum;
      }
    }
  }

  Image result = blank_image(width, height);
  uint8_t* out = result.rgb.data();
  const size_t stride = size_t{3} * width;
  for (const Tap& tap : taps(image.height, height)) {
    for (size_t x = 0; x < stride; ++x) {
      float sum = 0;
      for (size_t i = 0; i < tap.weights.size(); ++i)
        sum += tap.weights[i] * narrow[stride * (tap.first + i) + x];
      *out++ = static_cast<uint8_t>(std::clamp(std::lround(sum), 0L, 255L));
    }
  }
  return result;
}

Image fit_square(const Image& image, int size, SquareFit fit) {
  require_pixels(image, size, size);
  if (fit == SquareFit::kStretch) return resize(image, size, size);
  const bool is_cropped = fit == SquareFit::kCrop;
  const int side =
      is_cropped ? std::min(image.width, image.height) : std::max(image.width, image.height);
  const double scale = static_cast<double>(size) / side;
  const auto scaled = [&](int length) {
    const int rounded = static_cast<int>(std::lround(length * scale));
    return is_cropped ? std::max(rounded, size) : std::clamp(rounded, 1, size);
  };
  const Image scaled_image = resize(image, scaled(image.width), scaled(image.height));
  if (scaled_image.width == size && scaled_image.height == size) return scaled_image;

  // From where in the scaled picture to where in the square, along one axis.
  struct Stretch {
    int from, to, length;
  };
  const auto middle = [size](int length) -> Stretch {
    if (length >= size) return {(length - size) / 2, 0, size};
    return {0, (size - length) / 2, length};
  };
  const Stretch x = middle(scaled_image.width), y = middle(scaled_image.height);
  Image square = blank_image(size, size);
  for (int row = 0; row < y.length; ++row) {
    const auto from = scaled_image.rgb.begin() +
                      ptrdiff_t{3} * ((y.from + row) * ptrdiff_t{scaled_image.width} + x.from);
    std::copy(from, from + ptrdiff_t{3} * x.length,
              square.rgb.begin() + ptrdiff_t{3} * ((y.to + row) * ptrdiff_t{size} + x.to));
  }
  return square;
}

}  // namespace espalier
