#pragma once

#include <cstdint>
#include <vector>

namespace espalier {

// 8-bit sRGB picture, rows top to bottom, channels interleaved (HWC). Never carries alpha: decoders
// composite it on white.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;  // height * width * 3

  bool empty() const { return rgb.empty(); }
};

Image blank_image(int width, int height, uint8_t level = 255);

// On white, in the stored (sRGB) values, as image viewers do. `rgba` is height * width * 4.
Image composite_on_white(int width, int height, const std::vector<uint8_t>& rgba);

// Stretches to exactly width x height: area average along an axis that shrinks, bilinear along one
// that grows. The same pixels on every machine.
Image resize(const Image& image, int width, int height);

// How a picture that is not square becomes one.
enum class SquareFit {
  kPad,      // the whole picture, centred on white
  kCrop,     // the middle of it: the longer side is cut
  kStretch,  // the whole picture, its sides no longer in proportion
};
// size x size.
Image fit_square(const Image& image, int size, SquareFit fit = SquareFit::kPad);

}  // namespace espalier
