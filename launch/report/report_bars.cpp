#include "launch/report/report_bars.h"

#include <algorithm>
#include <cmath>

#include "launch/report/report_svg.h"

namespace espalier {
namespace {

constexpr double kLegendLine = 15;     // height
constexpr double kAxisLine = 14;       // height of the axis' name
constexpr double kLetterWidth = 6;     // of a tick label, about
constexpr double kValueWidth = 26;     // of a number above a bar
constexpr size_t kBaselineStyles = 6;  // classes l0 .. l5 of the style sheet

// Not longer than fits into `width`; a code point stays whole.
std::string cut_to(const std::string& text, double width) {
  const auto letters = static_cast<size_t>(std::max(1.0, width / kLetterWidth));
  if (text.size() <= letters) return text;
  size_t end = letters > 1 ? letters - 1 : 1;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "…";
}

struct Range {
  double low = 0, high = 0;
};

// Bars start at 0, so that their lengths can be compared.
Range range_of(const Series& series, const std::vector<Baseline>& baselines) {
  Range range;
  const auto add = [&range](double value) {
    if (!std::isfinite(value)) return;
    range.low = std::min(range.low, value);
    range.high = std::max(range.high, value);
  };
  for (const double value : series.values) add(value);
  for (const auto& baseline : baselines) add(baseline.value);
  if (range.high == range.low) range.high = 1;
  return range;
}

std::string bars_of(const Series& series, const Scale& y) {
  const size_t count = series.values.size();
  const double slot = (kChartWidth - kChartLeft - kChartRight) / static_cast<double>(count);
  const double width = std::min(44.0, 0.6 * slot);
  const auto every = static_cast<size_t>(std::ceil(3 * kLetterWidth / slot));  // labelled bar
  std::string bars, texts;
  for (size_t i = 0; i < count; ++i) {
    const double center = kChartLeft + slot * (static_cast<double>(i) + 0.5);
    const double value = series.values[i];
    if (i % every == 0) {
      texts += svg_text("tick", "middle", center, kChartHeight - kChartBottom + 15,
                        cut_to(series.places[i], slot * static_cast<double>(every)));
    }
    if (!std::isfinite(value)) continue;
    const double top = std::min(y(value), y(0));
    bars += format(
        "<rect class=\"bar s0\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
        "rx=\"2\"/>",
        center - width / 2, top, width, std::fabs(y(value) - y(0)));
    if (slot >= kValueWidth) {
      texts += svg_text("value", "middle", center, top - 4, short_number(value));
    }
  }
  return bars + texts;
}

std::string baselines_of(const std::vector<Baseline>& baselines, const Scale& y, double legend_y) {
  std::string out;
  for (size_t i = 0; i < baselines.size(); ++i) {
    const auto line = [&](double from, double to, double at) {
      return format("<line class=\"baseline l%zu\" x1=\"%g\" x2=\"%g\" y1=\"%.1f\" y2=\"%.1f\"/>",
                    i % kBaselineStyles, from, to, at, at);
    };
    const double at = y(baselines[i].value);
    out += line(kChartLeft, kChartWidth - kChartRight, at);
    const double row = legend_y + kLegendLine * static_cast<double>(i);
    out += line(kChartLeft, kChartLeft + 26, row - 4);
    out += svg_text("last", "start", kChartLeft + 32, row,
                    baselines[i].label + " " + short_number(baselines[i].value));
  }
  return out;
}

}  // namespace

std::string bar_chart(const Series& series) {
  const auto is_known = [](double value) { return std::isfinite(value); };
  if (std::none_of(series.values.begin(), series.values.end(), is_known)) return "";
  std::vector<Baseline> baselines;
  for (const auto& baseline : series.baselines) {
    if (is_known(baseline.value)) baselines.push_back(baseline);
  }
  const Range range = range_of(series, baselines);
  const double span = range.high - range.low;
  const Scale y{range.low - (range.low < 0 ? 0.06 * span : 0), range.high + 0.12 * span,
                kChartHeight - kChartBottom, kChartTop};
  const double axis_y = kChartHeight - kChartBottom + 15 + kAxisLine;
  const double legend_y = axis_y + kLegendLine + 3;
  const double height =
      baselines.empty() ? axis_y + 6
                        : legend_y + kLegendLine * static_cast<double>(baselines.size() - 1) + 8;
  std::string out =
      open_svg(series.label + (series.unit.empty() ? "" : " (" + series.unit + ")"), height);
  for (const double tick : nice_ticks(range.low, range.high, 4)) {
    out += y_tick(y(tick), short_number(tick));
  }
  // Lines first: values stay readable above them.
  out += baselines_of(baselines, y, legend_y) + bars_of(series, y);
  out +=
      svg_text("tick", "middle", (kChartLeft + kChartWidth - kChartRight) / 2, axis_y, series.axis);
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
    const int color = static_cast<int>(i) % kChartColors;
    out += format("<i class=\"b%d\" style=\"width:%.2f%%\"></i>", color, percent);
    legend += format("<li><i class=\"b%d\"></i>", color) + escape_html(parts[i].label) +
              format(" <b>%.1f%%</b> <span class=\"soft\">", percent) +
              short_number(parts[i].value) + " " + escape_html(unit) + "</span></li>";
  }
  return out + "</div>" + legend + "</ul>";
}

}  // namespace espalier
