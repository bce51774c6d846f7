#include "data/images/contact_sheet.h"

#include <algorithm>
#include <stdexcept>

namespace espalier {
namespace {

void draw(Image& sheet, const Image& image, int left, int top, int zoom) {
  for (int y = 0; y < image.height * zoom; ++y) {
    for (int x = 0; x < image.width * zoom; ++x) {
      const size_t from = size_t{3} * ((y / zoom) * static_cast<size_t>(image.width) + x / zoom);
      const size_t to = size_t{3} * (static_cast<size_t>(top + y) * sheet.width + left + x);
      std::copy_n(image.rgb.begin() + static_cast<ptrdiff_t>(from), 3,
                  sheet.rgb.begin() + static_cast<ptrdiff_t>(to));
    }
  }
}

}  // namespace

Image contact_sheet(const std::vector<std::vector<Image>>& rows, ContactSheetOptions options) {
  if (options.zoom < 1 || options.gap < 0)
    throw std::invalid_argument("contact_sheet: zoom must be at least 1 and gap at least 0");
  size_t columns = 0;
  int width = 0;
  int height = 0;
  for (const auto& row : rows) {
    columns = std::max(columns, row.size());
    for (const Image& image : row) {
      width = std::max(width, image.width * options.zoom);
      height = std::max(height, image.height * options.zoom);
    }
  }
  if (width == 0) throw std::invalid_argument("contact_sheet: no pictures");

  const int cell_width = width + options.gap;
  const int cell_height = height + options.gap;
  Image sheet = blank_image(static_cast<int>(columns) * cell_width + options.gap,
                            static_cast<int>(rows.size()) * cell_height + options.gap);
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t c = 0; c < rows[r].size(); ++c) {
      const Image& image = rows[r][c];
      const int left = options.gap + static_cast<int>(c) * cell_width;
      const int top = options.gap + static_cast<int>(r) * cell_height;
      draw(sheet, image, left + (width - image.width * options.zoom) / 2,
           top + (height - image.height * options.zoom) / 2, options.zoom);
    }
  }
  return sheet;
}

}  // namespace espalier
