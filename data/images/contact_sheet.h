#pragma once

#include <vector>

#include "data/images/image.h"

namespace espalier {

struct ContactSheetOptions {
  int zoom = 2;  // every pixel becomes zoom x zoom
  int gap = 4;   // white pixels between cells and around the sheet
};

// A grid of pictures, one vector per row; short rows are filled with white. Cells have the size of
// the largest picture, smaller ones are centred. Labels belong to the page that shows the sheet.
Image contact_sheet(const std::vector<std::vector<Image>>& rows, ContactSheetOptions options = {});

}  // namespace espalier
