#include "launch/report/report_chart.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace espalier {
namespace {

constexpr double kWidth = 420, kHeight = 200;
constexpr double kLeft = 52, kRight = 14, kTop = 30, kBottom = 28;
constexpr size_t kMaxPoints = 400;
constexpr int kSeriesColors = 6;

template <class... Args>
std::string format(const char* pattern, Args... args) {
  char text[512];
  std::snprintf(text, sizeof(text), pattern, args...);
  return text;
}

struct Scale {
  double low, high, from, to;
  double operator()(double value) const {
    return from + (to - from) * (value - low) / (high > low ? high - low : 1);
  }
};

// Means of neighbours, so that a long run stays a small picture.
std::vector<std::pair<double, double>> thin(const std::vector<std::pair<double, double>>& points) {
  if (points.size() <= kMaxPoints) return points;
  std::vector<std::pair<double, double>> out;
  for (size_t bin = 0; bin < kMaxPoints; ++bin) {
    const size_t begin = bin * points.size() / kMaxPoints;
    const size_t end = (bin + 1) * points.size() / kMaxPoints;
    double sum = 0;
    for (size_t i = begin; i < end; ++i) sum += points[i].second;
    out.emplace_back(points[end - 1].first, sum / static_cast<double>(end - begin));
  }
  return out;
}

std::vector<std::pair<double, double>> running_mean(
    const std::vector<std::pair<double, double>>& points) {
  const double keep = 1.0 - 1.0 / std::max(1.0, static_cast<double>(points.size()) / 25);
  std::vector<std::pair<double, double>> out;
  double weight = 0, mean = 0;
  for (const auto& [x, y] : points) {
    mean = keep * mean + (1 - keep) * y;
    weight = keep * weight + (1 - keep);
    out.emplace_back(x, mean / weight);
  }
  return out;
}

std::string polyline(const std::vector<std::pair<double, double>>& points, const Scale& x,
                     const Scale& y, bool log_y, const std::string& css) {
  std::string out = "<polyline class=\"" + css + "\" points=\"";
  for (const auto& [px, py] : points) {
    out += format("%.1f,%.1f ", x(px), y(log_y ? std::log10(py) : py));
  }
  return out + "\"/>";
}

std::string frame(const std::string& title) {
  return format("<svg class=\"chart\" viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"", kWidth,
                kHeight) +
         escape_html(title) + "\"><text class=\"title\" x=\"8\" y=\"18\">" + escape_html(title) +
         "</text>";
}

std::string y_tick(double at, const std::string& label) {
  return format("<line class=\"grid\" x1=\"%g\" x2=\"%g\" y1=\"%.1f\" y2=\"%.1f\"/>", kLeft,
                kWidth - kRight, at, at) +
         format("<text class=\"tick\" text-anchor=\"end\" x=\"%g\" y=\"%.1f\">", kLeft - 6,
                at + 3.5) +
         label + "</text>";
}

}  // namespace

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

std::string line_chart(const ReportCurve& curve, const ChartOptions& options) {
  const auto points = thin(curve.points);
  if (points.size() < 2) return "";
  const auto value_less = [](const auto& a, const auto& b) { return a.second < b.second; };
  double low = std::min_element(points.begin(), points.end(), value_less)->second;
  double high = std::max_element(points.begin(), points.end(), value_less)->second;
  const bool log_y = options.log_y && low > 0 && high / low > 3;
  if (log_y) {
    low = std::log10(low);
    high = std::log10(high);
  } else if (low > 0 && low < 0.5 * high) {
    low = 0;
  }
  if (high <= low) high = low + 1;
  const Scale x{points.front().first, points.back().first, kLeft, kWidth - kRight};
  const Scale y{low, high + 0.04 * (high - low), kHeight - kBottom, kTop};

  std::string out = frame(options.title);
  if (log_y) {
    for (double decade = std::floor(low); decade <= std::ceil(high); ++decade) {
      for (const double digit : {1.0, 2.0, 5.0}) {
        const double at = decade + std::log10(digit);
        if (at < low || at > high || (digit > 1 && high - low > 2)) continue;
        out += y_tick(y(at), short_number(std::pow(10, at)));
      }
    }
  } else {
    for (const double tick : nice_ticks(low, high, 4)) out += y_tick(y(tick), short_number(tick));
  }
  for (const double tick : nice_ticks(points.front().first, points.back().first, 5)) {
    out += format("<text class=\"tick\" text-anchor=\"middle\" x=\"%.1f\" y=\"%g\">", x(tick),
                  kHeight - 9) +
           short_number(tick) + "</text>";
  }
  const std::string color = format("series s%d", options.color % kSeriesColors);
  if (options.smooth && points.size() > 20) {
    out += polyline(points, x, y, log_y, color + " faint");
    out += polyline(running_mean(points), x, y, log_y, color);
  } else {
    out += polyline(points, x, y, log_y, color);
  }
  const double last = options.smooth && points.size() > 20 ? running_mean(points).back().second
                                                           : points.back().second;
  out += format("<text class=\"last\" text-anchor=\"end\" x=\"%g\" y=\"18\">", kWidth - kRight) +
         short_number(last) + escape_html(options.y_unit) + "</text>";
  return out + "</svg>";
}

std::string bar_chart(const std::string& title, const std::vector<Bar>& bars, double baseline,
                      const std::string& baseline_label) {
  if (bars.empty()) return "";
  const bool has_baseline = std::isfinite(baseline);
  double high = has_baseline ? baseline : 0;
  for (const auto& bar : bars) high = std::max(high, bar.value);
  if (high <= 0) high = 1;
  const Scale y{0, 1.12 * high, kHeight - kBottom, kTop};
  std::string out = frame(title);
  for (const double tick : nice_ticks(0, high, 4)) out += y_tick(y(tick), short_number(tick));
  const double slot = (kWidth - kLeft - kRight) / static_cast<double>(bars.size());
  const double width = std::min(44.0, 0.6 * slot);
  std::string values;
  for (size_t i = 0; i < bars.size(); ++i) {
    const double center = kLeft + slot * (static_cast<double>(i) + 0.5);
    const double top = y(std::max(0.0, bars[i].value));
    out += format(
        "<rect class=\"bar s0\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
        "rx=\"2\"/>",
        center - width / 2, top, width, kHeight - kBottom - top);
    values += format("<text class=\"value\" text-anchor=\"middle\" x=\"%.1f\" y=\"%.1f\">", center,
                     top - 4) +
              short_number(bars[i].value) + "</text>";
    out += format("<text class=\"tick\" text-anchor=\"middle\" x=\"%.1f\" y=\"%g\">", center,
                  kHeight - 9) +
           escape_html(bars[i].label) + "</text>";
  }
  if (has_baseline) {
    out += format("<line class=\"baseline\" x1=\"%g\" x2=\"%g\" y1=\"%.1f\" y2=\"%.1f\"/>", kLeft,
                  kWidth - kRight, y(baseline), y(baseline));
    out += format("<text class=\"last\" text-anchor=\"end\" x=\"%g\" y=\"18\">", kWidth - kRight) +
           "- - " + escape_html(baseline_label) + " " + short_number(baseline) + "</text>";
  }
  out += values;  // above the baseline
  return out + "</svg>";
}

std::string share_chart(const std::vector<Bar>& parts, const std::string& unit) {
  double total = 0;
  for (const auto& part : parts) total += part.value;
  if (total <= 0) return "";
  std::string out = "<div class=\"share\">";
  std::string legend = "<ul class=\"legend\">";
  for (size_t i = 0; i < parts.size(); ++i) {
    const double percent = 100 * parts[i].value / total;
    const int color = static_cast<int>(i) % kSeriesColors;
    out += format("<i class=\"b%d\" style=\"width:%.2f%%\"></i>", color, percent);
    legend += format("<li><i class=\"b%d\"></i>", color) + escape_html(parts[i].label) +
              format(" <b>%.1f%%</b> <span class=\"soft\">", percent) +
              short_number(parts[i].value) + " " + escape_html(unit) + "</span></li>";
  }
  return out + "</div>" + legend + "</ul>";
}

}  // namespace espalier
