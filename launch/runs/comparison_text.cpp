#include <algorithm>
#include <cmath>

#include "launch/report/report_sections.h"
#include "launch/report/report_svg.h"
#include "launch/runs/comparison.h"
#include "launch/runs/text_table.h"
#include "trainer/config/settings.h"

namespace espalier {
namespace {

constexpr size_t kChartColumns = 48, kLongestCell = 28;

std::vector<std::string> head(const Comparison& all, std::vector<std::string> first) {
  for (const auto& run : all.runs) first.push_back(run.summary.name);
  return first;
}

std::string settings_part(const Comparison& all) {
  if (all.settings.empty()) return "Settings: none differs\n";
  std::vector<std::vector<std::string>> rows = {head(all, {"setting"})};
  for (const auto& row : all.settings) {
    std::vector<std::string> cells = {row.key};
    for (const auto& value : row.values) {
      cells.push_back(cut_text(value.is_null() ? "–" : toml_value(value), kLongestCell));
    }
    rows.push_back(std::move(cells));
  }
  return "Settings that differ\n" + text_table(rows);
}

using Range = std::pair<double, double>;

void widen(Range& range, double value, bool is_first) {
  range.first = is_first ? value : std::min(range.first, value);
  range.second = is_first ? value : std::max(range.second, value);
}

// A line for each run, all on one scale.
std::string curve_part(const Comparison& all, const ComparedCurve& row) {
  Range x, y;
  bool is_first = true;
  for (const auto& curve : row.curves) {
    for (const auto& [step, value] : curve.points) {
      widen(x, step, is_first);
      widen(y, value, is_first);
      is_first = false;
    }
  }
  std::vector<std::vector<std::string>> lines;
  for (size_t i = 0; i < row.curves.size(); ++i) {
    const auto& points = row.curves[i].points;
    const std::string last = points.empty() ? "–" : short_number(points.back().second);
    lines.push_back(
        {"  " + all.runs[i].summary.name, spark_line(points, x, y, kChartColumns), last});
  }
  return row.stage + ": " + row.name + ", " + short_number(y.first) + " to " +
         short_number(y.second) + " over steps " + short_number(x.first) + " to " +
         short_number(x.second) + "\n" + text_table(lines);
}

std::string best_baseline_text(const Metric& metric) {
  const Baseline* best = best_baseline(metric);
  return best == nullptr ? "" : short_number(best->value) + " " + best->label;
}

std::string metrics_part(const Comparison& all) {
  if (all.metrics.empty()) return "";
  auto names = head(all, {"metric"});
  names.emplace_back("best baseline");
  std::vector<std::vector<std::string>> rows = {names};
  for (const auto& row : all.metrics) {
    const std::string unit = row.metric.unit.empty() ? "" : " (" + row.metric.unit + ")";
    std::vector<std::string> cells = {row.section + ": " + row.metric.label + unit +
                                      (row.metric.is_lower_better ? " ↓" : "")};
    for (size_t i = 0; i < row.values.size(); ++i) {
      cells.push_back(with_error(row.values[i], row.standard_errors[i]));
    }
    cells.push_back(best_baseline_text(row.metric));
    rows.push_back(std::move(cells));
  }
  return "\nWhat was measured (of the newest evaluation of each stage)\n" + text_table(rows);
}

}  // namespace

std::string comparison_text(const Comparison& all) {
  std::vector<RunSummary> summaries;
  for (const auto& run : all.runs) summaries.push_back(run.summary);
  std::string out = runs_table(summaries) + "\n" + settings_part(all) + "\nCurves\n";
  for (const auto& row : all.curves) out += curve_part(all, row);
  return out + metrics_part(all);
}

}  // namespace espalier
