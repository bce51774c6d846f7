#pragma once

#include <string>

#include "trainer/evaluation/finding.h"

namespace espalier {

// Curves with the bands of their errors, a line at zero where that lies between them, and a legend
// below. Values that are not finite are left out; "" when nothing is left. Inline SVG; colours come
// from the page's CSS variables, so it follows light and dark.
std::string finding_chart(const Plot& plot);

}  // namespace espalier
