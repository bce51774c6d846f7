#include "launch/report/finding_chart.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "launch/report/report_svg.h"

namespace espalier {
namespace {

constexpr double kLineOfLegend = 15;  // height
constexpr double kRoom = 0.06;        // of the range, above and below

std::vector<PlotPoint> finite_points(const PlotCurve& curve) {
  std::vector<PlotPoint> points;
  for (PlotPoint point : curve.points) {
    if (!std::isfinite(point.x) || !std::isfinite(point.y)) continue;
    if (!std::isfinite(point.error)) point.error = 0;
    points.push_back(point);
  }
  return points;
}

struct Axes {
  Scale x, y;
};

Axes axes_of(const std::vector<std::vector<PlotPoint>>& curves) {
  double left = HUGE_VAL, right = -HUGE_VAL, low = HUGE_VAL, high = -HUGE_VAL;
  for (const auto& points : curves) {
    for (const PlotPoint& point : points) {
      left = std::min(left, point.x);
      right = std::max(right, point.x);
      low = std::min(low, point.y - point.error);
      high = std::max(high, point.y + point.error);
    }
  }
  if (right <= left) right = left + 1;
  if (high <= low) high = low + 1;
  const double room = kRoom * (high - low);
  return {{left, right, kChartLeft, kChartWidth - kChartRight},
          {low - room, high + room, kChartHeight - kChartBottom, kChartTop}};
}

std::string band_of(const std::vector<PlotPoint>& points, const Axes& axes, size_t color) {
  const bool has_errors = std::any_of(points.begin(), points.end(),
                                      [](const PlotPoint& point) { return point.error > 0; });
  if (!has_errors || points.size() < 2) return "";
  std::string out = format("<polygon class=\"band s%zu\" points=\"", color);
  for (const PlotPoint& p : points) out += format("%.1f,%.1f ", axes.x(p.x), axes.y(p.y + p.error));
  for (auto p = points.rbegin(); p != points.rend(); ++p) {
    out += format("%.1f,%.1f ", axes.x(p->x), axes.y(p->y - p->error));
  }
  return out + "\"/>";
}

std::string curve_of(const std::vector<PlotPoint>& points, const Axes& axes, size_t color,
                     bool is_baseline) {
  const char* dash = is_baseline ? " dashed" : "";
  std::string out = format("<polyline class=\"series s%zu%s\" points=\"", color, dash);
  for (const PlotPoint& p : points) out += format("%.1f,%.1f ", axes.x(p.x), axes.y(p.y));
  out += "\"/>";
  // A point alone has no line; its error is a stroke.
  for (const PlotPoint& p : points) {
    if (points.size() > 1) break;
    out += format("<line class=\"series s%zu\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>",
                  color, axes.x(p.x), axes.x(p.x) + 4, axes.y(p.y), axes.y(p.y));
  }
  return out;
}

std::string ticks_of(const Plot& plot, const Axes& axes) {
  std::string out;
  for (const double tick : nice_ticks(axes.y.low, axes.y.high, 4)) {
    out += y_tick(axes.y(tick), short_number(tick));
  }
  for (const double tick : nice_ticks(axes.x.low, axes.x.high, 5)) {
    if (tick != std::floor(tick)) continue;  // layers and steps are whole
    out += svg_text("tick", "middle", axes.x(tick), kChartHeight - 13, short_number(tick));
  }
  if (axes.y.low < 0 && axes.y.high > 0) {
    out += format("<line class=\"zero\" x1=\"%g\" x2=\"%g\" y1=\"%.1f\" y2=\"%.1f\"/>", kChartLeft,
                  kChartWidth - kChartRight, axes.y(0), axes.y(0));
  }
  return out + svg_text("tick", "end", kChartWidth - kChartRight, kChartHeight - 1, plot.axis);
}

}  // namespace

std::string finding_chart(const Plot& plot) {
  std::vector<std::vector<PlotPoint>> curves;
  std::vector<const PlotCurve*> sources;
  for (const PlotCurve& curve : plot.curves) {
    std::vector<PlotPoint> points = finite_points(curve);
    if (points.empty()) continue;
    curves.push_back(std::move(points));
    sources.push_back(&curve);
  }
  if (curves.empty()) return "";
  const Axes axes = axes_of(curves);
  const double height = kChartHeight + 8 + kLineOfLegend * static_cast<double>(curves.size());
  std::string bands, lines, legend;
  for (size_t i = 0; i < curves.size(); ++i) {
    const size_t color = i % kChartColors;
    const bool is_baseline = sources[i]->is_baseline;
    bands += band_of(curves[i], axes, color);
    lines += curve_of(curves[i], axes, color, is_baseline);
    const double at = kChartHeight + 14 + kLineOfLegend * static_cast<double>(i);
    legend +=
        format("<line class=\"series s%zu%s\" x1=\"%g\" x2=\"%g\" y1=\"%g\" y2=\"%g\"/>", color,
               is_baseline ? " dashed" : "", kChartLeft, kChartLeft + 22, at - 4, at - 4);
    legend += svg_text("last", "start", kChartLeft + 28, at, sources[i]->label);
  }
  return open_svg(plot.title, height) + ticks_of(plot, axes) + bands + lines + legend + "</svg>";
}

}  // namespace espalier
