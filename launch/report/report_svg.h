#pragma once

#include <cstdio>
#include <string>
#include <vector>

namespace espalier {

// Numbers and text as a report prints them, and the parts that its charts are drawn from.

// Round tick values that cover [low, high], about `count` of them.
std::vector<double> nice_ticks(double low, double high, int count);
std::string short_number(double value);  // "0.0312", "12.5k", "3e-04"; "–" when not finite
std::string escape_html(const std::string& text);

inline constexpr double kChartWidth = 420, kChartHeight = 200;
inline constexpr double kChartLeft = 52, kChartRight = 14, kChartTop = 30, kChartBottom = 28;
inline constexpr int kChartColors = 6;

template <class... Args>
std::string format(const char* pattern, Args... args) {
  char text[512];
  std::snprintf(text, sizeof(text), pattern, args...);
  return text;
}

// From values to places on the chart.
struct Scale {
  double low, high, from, to;
  double operator()(double value) const {
    return from + (to - from) * (value - low) / (high > low ? high - low : 1);
  }
};

std::string open_svg(const std::string& title, double height = kChartHeight);
std::string y_tick(double at, const std::string& label);
std::string svg_text(const char* css, const char* anchor, double x, double y,
                     const std::string& text);

}  // namespace espalier
