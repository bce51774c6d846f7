#pragma once

#include "data/images/image.h"
#include "trainer/masks/mask_file.h"

namespace espalier {

// Rows ask, columns are seen; a visible cell has the colour of the group that is seen. Groups are
// named and coloured along both edges and in the legend, timesteps ruled. Throws DataError when the
// font is missing, ConfigError when a picture of that many tokens would be too large.
Image mask_picture(const MaskFile& file, const MaskLayout& layout);

}  // namespace espalier
