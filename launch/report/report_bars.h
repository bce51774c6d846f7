#pragma once

#include <string>
#include <vector>

#include "trainer/evaluation/section.h"

namespace espalier {

struct Bar {
  std::string label;
  double value = 0;
};

// One vertical bar for each place of a series, with a dashed line and a line of legend for each
// baseline that is known. "" when no value is known. Inline SVG; colours come from the page's CSS
// variables, so it follows light and dark.
std::string bar_chart(const Series& series);

// One horizontal bar of parts that add up to a whole.
std::string share_chart(const std::vector<Bar>& parts, const std::string& unit);

}  // namespace espalier
