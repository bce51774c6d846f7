#include "launch/report/report_chart.h"

#include <algorithm>
#include <cmath>

#include "launch/report/report_svg.h"

namespace espalier {
namespace {

using Points = std::vector<std::pair<double, double>>;

constexpr size_t kMaxPoints = 400;
constexpr size_t kSmoothFrom = 20;  // points

// Means of neighbours, so that a long run stays a small picture.
Points thin(const Points& points) {
  if (points.size() <= kMaxPoints) return points;
  Points out;
  for (size_t bin = 0; bin < kMaxPoints; ++bin) {
    const size_t begin = bin * points.size() / kMaxPoints;
    const size_t end = (bin + 1) * points.size() / kMaxPoints;
    double sum = 0;
    for (size_t i = begin; i < end; ++i) sum += points[i].second;
    out.emplace_back(points[end - 1].first, sum / static_cast<double>(end - begin));
  }
  return out;
}

Points running_mean(const Points& points) {
  const double keep = 1.0 - 1.0 / std::max(1.0, static_cast<double>(points.size()) / 25);
  Points out;
  double weight = 0, mean = 0;
  for (const auto& [x, y] : points) {
    mean = keep * mean + (1 - keep) * y;
    weight = keep * weight + (1 - keep);
    out.emplace_back(x, mean / weight);
  }
  return out;
}

std::string polyline(const Points& points, const Scale& x, const Scale& y, bool log_y,
                     const std::string& css) {
  std::string out = "<polyline class=\"" + css + "\" points=\"";
  for (const auto& [px, py] : points) {
    out += format("%.1f,%.1f ", x(px), y(log_y ? std::log10(py) : py));
  }
  return out + "\"/>";
}

// Where the curve lies, in the numbers that are drawn: decades where the axis is logarithmic.
struct Axis {
  double low = 0, high = 1;
  bool is_log = false;
};

Axis axis_of(const Points& points, bool may_be_log) {
  const auto value_less = [](const auto& a, const auto& b) { return a.second < b.second; };
  Axis axis{std::min_element(points.begin(), points.end(), value_less)->second,
            std::max_element(points.begin(), points.end(), value_less)->second, false};
  axis.is_log = may_be_log && axis.low > 0 && axis.high / axis.low > 3;
  if (axis.is_log) {
    axis.low = std::log10(axis.low);
    axis.high = std::log10(axis.high);
  } else if (axis.low > 0 && axis.low < 0.5 * axis.high) {
    axis.low = 0;
  }
  if (axis.high <= axis.low) axis.high = axis.low + 1;
  return axis;
}

std::string y_ticks(const Axis& axis, const Scale& y) {
  std::string out;
  if (!axis.is_log) {
    for (const double tick : nice_ticks(axis.low, axis.high, 4)) {
      out += y_tick(y(tick), short_number(tick));
    }
    return out;
  }
  for (double decade = std::floor(axis.low); decade <= std::ceil(axis.high); ++decade) {
    for (const double digit : {1.0, 2.0, 5.0}) {
      const double at = decade + std::log10(digit);
      if (at < axis.low || at > axis.high || (digit > 1 && axis.high - axis.low > 2)) continue;
      out += y_tick(y(at), short_number(std::pow(10, at)));
    }
  }
  return out;
}

// A curve on axes that are given: the raw values faint behind their running mean.
std::string drawn_curve(const Points& points, const Scale& x, const Scale& y, bool log_y,
                        const ChartOptions& options, double* last) {
  const std::string color = format("series s%d", options.color % kChartColors);
  const bool is_smooth = options.smooth && points.size() > kSmoothFrom;
  const Points drawn = is_smooth ? running_mean(points) : points;
  *last = drawn.back().second;
  return (is_smooth ? polyline(points, x, y, log_y, color + " faint") : "") +
         polyline(drawn, x, y, log_y, color);
}

}  // namespace

std::string line_chart(const ReportCurve& curve, const ChartOptions& options) {
  return overlay_chart({curve}, options);
}

std::string overlay_chart(const std::vector<ReportCurve>& curves, const ChartOptions& options) {
  std::vector<Points> all;
  Points together;
  for (const auto& curve : curves) {
    all.push_back(curve.points.size() < 2 ? Points() : thin(curve.points));
    together.insert(together.end(), all.back().begin(), all.back().end());
  }
  if (together.empty()) return "";
  const Axis axis = axis_of(together, options.log_y);
  const auto [first, last_point] = std::minmax_element(together.begin(), together.end());
  const double begin = first->first, end = last_point->first;
  const Scale x{begin, end, kChartLeft, kChartWidth - kChartRight};
  const Scale y{axis.low, axis.high + 0.04 * (axis.high - axis.low), kChartHeight - kChartBottom,
                kChartTop};
  std::string out = open_svg(options.title) + y_ticks(axis, y);
  for (const double tick : nice_ticks(begin, end, 5)) {
    out += svg_text("tick", "middle", x(tick), kChartHeight - 9, short_number(tick));
  }
  std::string lasts;
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].empty()) continue;
    ChartOptions of_curve = options;
    of_curve.color += static_cast<int>(i);
    double last = 0;
    out += drawn_curve(all[i], x, y, axis.is_log, of_curve, &last);
    lasts += (lasts.empty() ? "" : " · ") + short_number(last) + options.y_unit;
  }
  return out + svg_text("last", "end", kChartWidth - kChartRight, 18, lasts) + "</svg>";
}

}  // namespace espalier
