#pragma once

#include <string>
#include <vector>

#include "launch/report/report_data.h"

namespace espalier {

struct ChartOptions {
  std::string title = {};
  std::string y_unit = {};
  bool log_y = false;  // used only where all values are positive
  bool smooth = true;  // raw values faint, their running mean on top
  int color = 0;       // one of the page's series colours
};

// Inline SVG; colours come from the page's CSS variables, so it follows light and dark.
std::string line_chart(const ReportCurve& curve, const ChartOptions& options);

// Several curves on the same axes, in the page's series colours by their places; "" when none has
// two points.
std::string overlay_chart(const std::vector<ReportCurve>& curves, const ChartOptions& options);

}  // namespace espalier
