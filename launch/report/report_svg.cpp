#include "launch/report/report_svg.h"

#include <cmath>

namespace espalier {

std::vector<double> nice_ticks(double low, double high, int count) {
  if (!(high > low)) return {low};
  const double raw = (high - low) / count;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
    if (factor * power >= raw) {
      step = factor * power;
      break;
    }
  }
  std::vector<double> ticks;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; ++i) {
    ticks.push_back(i == 0 ? 0.0 : i * step);
  }
  return ticks;
}

std::string short_number(double value) {
  const double size = std::fabs(value);
  if (!std::isfinite(value)) return "–";
  if (size == 0) return "0";
  if (size >= 1e6) return format("%.3gM", value / 1e6);
  if (size >= 1e4) return format("%.3gk", value / 1e3);
  if (size < 1e-3) return format("%.2g", value);
  return size >= 100 ? format("%.0f", value) : format("%.3g", value);
}

std::string escape_html(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string open_svg(const std::string& title, double height) {
  return format("<svg class=\"chart\" viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"",
                kChartWidth, height) +
         escape_html(title) + "\">" + svg_text("title", "start", 8, 18, title);
}

std::string y_tick(double at, const std::string& label) {
  return format("<line class=\"grid\" x1=\"%g\" x2=\"%g\" y1=\"%.1f\" y2=\"%.1f\"/>", kChartLeft,
                kChartWidth - kChartRight, at, at) +
         svg_text("tick", "end", kChartLeft - 6, at + 3.5, label);
}

std::string svg_text(const char* css, const char* anchor, double x, double y,
                     const std::string& text) {
  return format("<text class=\"%s\" text-anchor=\"%s\" x=\"%.1f\" y=\"%.1f\">", css, anchor, x, y) +
         escape_html(text) + "</text>";
}

}  // namespace espalier
