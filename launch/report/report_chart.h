#pragma once

#include <string>
#include <utility>
#include <vector>

#include "launch/report/report_data.h"

namespace espalier {

// Round tick values that cover [low, high], about `count` of them.
std::vector<double> nice_ticks(double low, double high, int count);
std::string short_number(double value);  // "0.0312", "12.5k", "3e-04"
std::string escape_html(const std::string& text);

struct ChartOptions {
  std::string title = {};
  std::string y_unit = {};
  bool log_y = false;  // used only where all values are positive
  bool smooth = true;  // raw values faint, their running mean on top
  int color = 0;       // one of the page's series colours
};

// Inline SVG; colours come from the page's CSS variables, so it follows light and dark.
std::string line_chart(const ReportCurve& curve, const ChartOptions& options);

struct Bar {
  std::string label;
  double value = 0;
};
// Vertical bars, with a dashed line for a baseline when it is finite.
std::string bar_chart(const std::string& title, const std::vector<Bar>& bars, double baseline,
                      const std::string& baseline_label);

// One horizontal bar of parts that add up to a whole.
std::string share_chart(const std::vector<Bar>& parts, const std::string& unit);

}  // namespace espalier
