#pragma once

#include <string>
#include <utility>
#include <vector>

namespace espalier {

// Rows under a head, columns as wide as their widest cell (in characters of UTF-8).
std::string text_table(const std::vector<std::vector<std::string>>& rows);

// At most so many characters; "…" stands for what was cut.
std::string cut_text(const std::string& text, size_t characters);

// A curve as one line of block characters. `x` and `y` are the ranges that the line covers, so that
// several lines have the same scale; blank where a curve has no points.
std::string spark_line(const std::vector<std::pair<double, double>>& points,
                       std::pair<double, double> x, std::pair<double, double> y, size_t columns);

}  // namespace espalier
