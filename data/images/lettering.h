#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "data/images/image.h"

namespace espalier {

using Colour = std::array<uint8_t, 3>;

// What is outside the picture is cut off.
void fill_rectangle(Image& image, int x, int y, int width, int height, const Colour& colour);

// DejaVu Sans, drawn by FreeType. DataError when the font file that the build found is gone.
class Lettering {
 public:
  explicit Lettering(int height_pixels);  // of an em
  ~Lettering();
  Lettering(const Lettering&) = delete;
  Lettering& operator=(const Lettering&) = delete;

  // `y` is the line that letters stand on. Letters are Latin-1 of UTF-8; others become "?".
  void draw(Image& image, int x, int y, const std::string& text, const Colour& colour) const;
  int width(const std::string& text) const;  // pixels

 private:
  struct Face;
  Face* face_;
};

}  // namespace espalier
