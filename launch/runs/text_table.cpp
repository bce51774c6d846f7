#include "launch/runs/text_table.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "data/text/utf8.h"
#include "launch/status/text_chart.h"

namespace espalier {
namespace {

size_t width_of(const std::string& text) { return static_cast<size_t>(count_code_points(text)); }

}  // namespace

std::string text_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    if (widths.size() < row.size()) widths.resize(row.size());
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      if (i > 0) line += "  ";
      line += row[i];
      if (i + 1 < row.size()) line += std::string(widths[i] - width_of(row[i]), ' ');
    }
    out += line + "\n";
  }
  return out;
}

std::string cut_text(const std::string& text, size_t characters) {
  if (width_of(text) <= characters) return text;
  return cut_to_columns(text, static_cast<int>(characters) - 1) + "…";
}

std::string spark_line(const std::vector<std::pair<double, double>>& points,
                       std::pair<double, double> x, std::pair<double, double> y, size_t columns) {
  constexpr std::array kBlocks = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  std::vector<double> sums(columns), counts(columns);
  for (const auto& [at, value] : points) {
    const double place = x.second > x.first ? (at - x.first) / (x.second - x.first) : 0;
    const double column = std::clamp(place, 0.0, 1.0) * static_cast<double>(columns - 1);
    sums[static_cast<size_t>(std::lround(column))] += value;
    counts[static_cast<size_t>(std::lround(column))] += 1;
  }
  std::string out;
  double last = std::nan("");  // a curve with fewer points than columns stays level between them
  for (size_t i = 0; i < columns; ++i) {
    if (counts[i] > 0) last = sums[i] / counts[i];
    const bool is_behind =
        points.empty() || (counts[i] == 0 && i > 0 &&
                           std::all_of(counts.begin() + static_cast<long>(i), counts.end(),
                                       [](double n) { return n == 0; }));
    if (is_behind || !std::isfinite(last)) {
      out += ' ';
      continue;
    }
    const double part = y.second > y.first ? (last - y.first) / (y.second - y.first) : 0;
    out += kBlocks[static_cast<size_t>(std::lround(std::clamp(part, 0.0, 1.0) * 7))];
  }
  return out;
}

}  // namespace espalier
