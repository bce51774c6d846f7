#include "data/images/lettering.h"

#include <ft2build.h>
#include FT_FREETYPE_H

#include <algorithm>
#include <cstddef>

#include "data/errors.h"

namespace espalier {

struct Lettering::Face {
  FT_Library library = nullptr;
  FT_Face face = nullptr;
};

namespace {

// One- and two-byte UTF-8; all that group names and units need.
uint32_t next_letter(const std::string& text, size_t& at) {
  const auto first = static_cast<uint8_t>(text[at++]);
  if (first < 0x80) return first;
  uint32_t letter = first;
  size_t more = 0;
  while (at < text.size() && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) {
    letter = (more == 0 ? first & 0x1Fu : letter) << 6 | (static_cast<uint8_t>(text[at++]) & 0x3Fu);
    ++more;
  }
  return more == 1 ? letter : '?';
}

void blend(Image& image, int x, int y, const Colour& colour, int cover) {
  if (x < 0 || y < 0 || x >= image.width || y >= image.height) return;
  uint8_t* pixel = &image.rgb[3 * (static_cast<size_t>(y) * static_cast<size_t>(image.width) +
                                   static_cast<size_t>(x))];
  for (size_t c = 0; c < 3; ++c) {
    pixel[c] = static_cast<uint8_t>((pixel[c] * (255 - cover) + colour[c] * cover + 127) / 255);
  }
}

}  // namespace

void fill_rectangle(Image& image, int x, int y, int width, int height, const Colour& colour) {
  for (int row = std::max(y, 0); row < std::min(y + height, image.height); ++row) {
    for (int column = std::max(x, 0); column < std::min(x + width, image.width); ++column) {
      blend(image, column, row, colour, 255);
    }
  }
}

Lettering::Lettering(int height_pixels) : face_(new Face) {
  const bool is_ready =
      FT_Init_FreeType(&face_->library) == 0 &&
      FT_New_Face(face_->library, ESPALIER_FONT, 0, &face_->face) == 0 &&
      FT_Set_Pixel_Sizes(face_->face, 0, static_cast<FT_UInt>(height_pixels)) == 0;
  if (is_ready) return;
  if (face_->library != nullptr) FT_Done_FreeType(face_->library);
  delete face_;
  throw DataError("cannot read the font " ESPALIER_FONT
                  " that names in pictures are written with; it comes with Debian's package "
                  "fonts-dejavu-core (launch/bootstrap installs it)");
}

Lettering::~Lettering() {
  FT_Done_Face(face_->face);
  FT_Done_FreeType(face_->library);
  delete face_;
}

void Lettering::draw(Image& image, int x, int y, const std::string& text,
                     const Colour& colour) const {
  for (size_t at = 0; at < text.size();) {
    if (FT_Load_Char(face_->face, next_letter(text, at), FT_LOAD_RENDER) != 0) continue;
    const FT_GlyphSlot glyph = face_->face->glyph;
    for (unsigned row = 0; row < glyph->bitmap.rows; ++row) {
      for (unsigned column = 0; column < glyph->bitmap.width; ++column) {
        const uint8_t cover =
            glyph->bitmap.buffer[static_cast<std::ptrdiff_t>(row) * glyph->bitmap.pitch + column];
        blend(image, x + glyph->bitmap_left + static_cast<int>(column),
              y - glyph->bitmap_top + static_cast<int>(row), colour, cover);
      }
    }
    x += static_cast<int>(glyph->advance.x >> 6);
  }
}

int Lettering::width(const std::string& text) const {
  int width = 0;
  for (size_t at = 0; at < text.size();) {
    if (FT_Load_Char(face_->face, next_letter(text, at), FT_LOAD_DEFAULT) != 0) continue;
    width += static_cast<int>(face_->face->glyph->advance.x >> 6);
  }
  return width;
}

}  // namespace espalier
