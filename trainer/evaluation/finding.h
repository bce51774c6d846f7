#pragma once

#include <string>
#include <vector>

#include "trainer/evaluation/section.h"

namespace espalier {

// What was found out about a whole run, told so that whoever shows it needs to know nothing of what
// was measured: words, tables, and curves with their intervals.

struct PlotPoint {
  double x = 0, y = 0;
  double error = 0;  // the band reaches so far above and below; 0 = none
};

struct PlotCurve {
  std::string label;
  std::vector<PlotPoint> points = {};
  bool is_baseline = false;  // drawn as such: dashed
};

struct Plot {
  std::string title;
  std::string axis;  // what x is: "layer", "step"
  std::vector<PlotCurve> curves = {};
};

struct Finding {
  std::string title;
  std::vector<std::string> paragraphs = {};
  std::vector<Table> tables = {};
  std::vector<Plot> plots = {};
};

}  // namespace espalier
