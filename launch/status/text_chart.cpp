#include "launch/status/text_chart.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "data/text/utf8.h"

namespace espalier {
namespace {

constexpr int kDotColumns = 2, kDotRows = 4;
// Unicode gives the dots of a braille cell these bits, by column and row.
constexpr uint8_t kDotBits[kDotColumns][kDotRows] = {{0x01, 0x02, 0x04, 0x40},
                                                     {0x08, 0x10, 0x20, 0x80}};

class Dots {
 public:
  Dots(int columns, int rows) : columns_(columns), cells_(static_cast<size_t>(columns) * rows) {}

  void set(int x, int y) {
    const int cell = (y / kDotRows) * columns_ + x / kDotColumns;
    cells_[static_cast<size_t>(cell)] |= kDotBits[x % kDotColumns][y % kDotRows];
  }

  std::string row(int index) const {
    std::string out;
    for (int column = 0; column < columns_; ++column) {
      const uint8_t bits = cells_[static_cast<size_t>(index) * columns_ + column];
      if (bits == 0) {
        out += ' ';
        continue;
      }
      // U+2800 + bits, in UTF-8.
      out += {static_cast<char>(0xE2), static_cast<char>(0xA0 | (bits >> 6)),
              static_cast<char>(0x80 | (bits & 0x3F))};
    }
    return out;
  }

 private:
  int columns_;
  std::vector<uint8_t> cells_;
};

// Means of the points that fall on each column of dots; NaN where none does.
std::vector<double> means(const std::vector<std::pair<double, double>>& points, int columns) {
  const double first = points.front().first, width = points.back().first - first;
  std::vector<double> sums(static_cast<size_t>(columns)), counts(sums.size());
  for (const auto& [x, y] : points) {
    const double place = width > 0 ? (x - first) / width * (columns - 1) : 0;
    const auto column = static_cast<size_t>(std::lround(place));
    sums[column] += y;
    counts[column] += 1;
  }
  for (size_t i = 0; i < sums.size(); ++i) {
    sums[i] = counts[i] > 0 ? sums[i] / counts[i] : std::numeric_limits<double>::quiet_NaN();
  }
  return sums;
}

}  // namespace

std::vector<std::string> text_chart(const std::vector<std::pair<double, double>>& points,
                                    int columns, int rows) {
  if (columns < 1 || rows < 1) return {};
  Dots dots(columns, rows);
  if (!points.empty()) {
    const std::vector<double> values = means(points, columns * kDotColumns);
    double least = std::numeric_limits<double>::infinity(), greatest = -least;
    for (const double value : values) {
      if (!std::isfinite(value)) continue;
      least = std::min(least, value);
      greatest = std::max(greatest, value);
    }
    const int height = rows * kDotRows - 1;
    const auto level = [&](double value) {
      const double part = greatest > least ? (value - least) / (greatest - least) : 0;
      return static_cast<int>(std::lround((1 - part) * height));
    };
    int last_x = -1, last_y = 0;
    for (int x = 0; x < static_cast<int>(values.size()); ++x) {
      if (!std::isfinite(values[static_cast<size_t>(x)])) continue;
      const int y = level(values[static_cast<size_t>(x)]);
      if (last_x < 0) last_x = x, last_y = y;
      const int steps = std::max({x - last_x, std::abs(y - last_y), 1});
      for (int i = 0; i <= steps; ++i) {
        dots.set(last_x + (x - last_x) * i / steps, last_y + (y - last_y) * i / steps);
      }
      last_x = x, last_y = y;
    }
  }
  std::vector<std::string> lines;
  for (int row = 0; row < rows; ++row) lines.push_back(dots.row(row));
  return lines;
}

std::string cut_to_columns(const std::string& text, int columns) {
  std::string out;
  int count = 0;
  for (const char c : text) {
    const bool starts = (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    if (starts && count++ >= columns) break;
    out.push_back(c);
  }
  return out;
}

std::string fit_to_columns(const std::string& text, int columns) {
  std::string out = cut_to_columns(text, columns);
  const int64_t missing = columns - count_code_points(out);
  return out.append(static_cast<size_t>(std::max<int64_t>(0, missing)), ' ');
}

}  // namespace espalier
