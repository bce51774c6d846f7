#include "launch/report/report_sections.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "launch/report/report_bars.h"
#include "launch/report/report_pictures.h"
#include "launch/report/report_svg.h"

namespace espalier {
namespace {

constexpr size_t kRowsShown = 24;  // of a table; the rest is folded away

std::string cell(const std::string& html, const char* css = "n") {
  return std::string("<td class=\"") + css + "\">" + html + "</td>";
}

std::string with_unit(const std::string& label, const std::string& unit) {
  return escape_html(unit.empty() ? label : label + " (" + unit + ")");
}

// Labels of all baselines in the order in which they come first.
std::vector<std::string> baseline_labels(const Section& section) {
  std::vector<std::string> labels;
  for (const auto& metric : section.metrics) {
    for (const auto& baseline : metric.baselines) {
      if (std::find(labels.begin(), labels.end(), baseline.label) == labels.end()) {
        labels.push_back(baseline.label);
      }
    }
  }
  return labels;
}

// One row: the value, then each baseline in its column; the best of them all in bold.
std::string metric_row(const Metric& metric, const std::vector<std::string>& labels) {
  const Baseline* best = best_baseline(metric);
  const bool is_best = best == nullptr || (metric.is_lower_better ? metric.value <= best->value
                                                                  : metric.value >= best->value);
  const auto bold = [](const std::string& text) { return "<b>" + text + "</b>"; };
  const std::string value = with_error(metric.value, metric.standard_error);
  std::string out = std::string(metric.is_headline ? "<tr class=\"ours\">" : "<tr>") + "<td>" +
                    with_unit(metric.label, metric.unit) + "</td>" +
                    cell(is_best && best != nullptr ? bold(value) : value);
  for (const auto& label : labels) {
    const auto found =
        std::find_if(metric.baselines.begin(), metric.baselines.end(),
                     [&](const Baseline& baseline) { return baseline.label == label; });
    if (found == metric.baselines.end()) {
      out += "<td></td>";
      continue;
    }
    const std::string text = short_number(found->value);
    out += cell(!is_best && found->value == best->value ? bold(text) : text);
  }
  return out + "</tr>";
}

std::string metrics_table(const Section& section) {
  if (section.metrics.empty()) return "";
  const std::vector<std::string> labels = baseline_labels(section);
  std::string out = "<div class=\"scroll\"><table><tr><th></th><th class=\"n\">this run</th>";
  for (const auto& label : labels) out += "<th class=\"n\">" + escape_html(label) + "</th>";
  out += "</tr>";
  for (const auto& metric : section.metrics) out += metric_row(metric, labels);
  return out + "</table></div>";
}

std::string series_charts(const Section& section) {
  std::string out;
  for (const auto& series : section.series) {
    const std::string chart = bar_chart(series);
    if (!chart.empty()) out += "<div class=\"panel\">" + chart + "</div>";
  }
  return out.empty() ? "" : "<div class=\"grid wide\">" + out + "</div>";
}

std::string series_rows(const Series& series) {
  std::string out = "<tr><td>" + with_unit(series.label, series.unit) + "</td>";
  for (const double value : series.values) out += cell(short_number(value));
  out += "</tr>";
  for (const auto& baseline : series.baselines) {
    out += "<tr><td class=\"soft under\">" + escape_html(baseline.label) +
           format("</td><td class=\"all soft\" colspan=\"%zu\">", series.places.size()) +
           short_number(baseline.value) + "</td></tr>";
  }
  return out;
}

// Series over the same places stand in one table, under one head.
std::string series_tables(const Section& section) {
  std::string out;
  std::vector<bool> is_done(section.series.size(), false);
  for (size_t first = 0; first < section.series.size(); ++first) {
    const Series& head = section.series[first];
    if (is_done[first] || head.places.empty()) continue;
    out += "<div class=\"scroll\"><table><tr><th>" + escape_html(head.axis) + "</th>";
    for (const auto& place : head.places) {
      out += "<th class=\"n\">" + escape_html(place) + "</th>";
    }
    out += "</tr>";
    for (size_t i = first; i < section.series.size(); ++i) {
      const Series& series = section.series[i];
      if (series.axis != head.axis || series.places != head.places) continue;
      is_done[i] = true;
      out += series_rows(series);
    }
    out += "</table></div>";
  }
  return out;
}

std::string rows_of(const Table& table, size_t begin, size_t end) {
  std::string out = "<div class=\"scroll\"><table><tr>";
  for (const auto& column : table.columns) out += "<th>" + escape_html(column) + "</th>";
  out += "</tr>";
  for (size_t row = begin; row < end; ++row) {
    out += "<tr>";
    for (const auto& text : table.rows[row]) out += "<td>" + escape_html(text) + "</td>";
    out += "</tr>";
  }
  return out + "</table></div>";
}

std::string table_html(const Table& table) {
  if (table.rows.empty()) return "";
  const size_t shown = std::min(table.rows.size(), kRowsShown);
  std::string out = "<h4>" + escape_html(table.title) + "</h4>" + rows_of(table, 0, shown);
  if (shown == table.rows.size()) return out;
  return out + format("<details><summary>%zu more</summary>", table.rows.size() - shown) +
         rows_of(table, shown, table.rows.size()) + "</details>";
}

std::string section_html(const ReportData& data, const Section& section) {
  const std::string& title = section.title.empty() ? section.name : section.title;
  std::string out = "<h3>" + escape_html(title) + "</h3>";
  if (!section.text.empty()) out += "<p>" + escape_html(section.text) + "</p>";
  const std::string cards = headline_cards(section);
  if (!cards.empty()) out += "<div class=\"cards few\">" + cards + "</div>";
  out += metrics_table(section) + series_charts(section) + series_tables(section);
  for (const auto& table : section.tables) out += table_html(table);
  return out + pictures_of(data, section);
}

}  // namespace

std::string card(const std::string& value, const std::string& what, const std::string& beside) {
  return "<div class=\"card\"><span>" + escape_html(what) + "</span><b>" + escape_html(value) +
         "</b><span>" + escape_html(beside) + "</span></div>";
}

std::string with_error(double value, double standard_error) {
  if (!std::isfinite(value) || !std::isfinite(standard_error)) return short_number(value);
  if (standard_error <= 0) return short_number(value) + " ± 0";
  constexpr int kMostDecimals = 8;
  const int decimals =
      std::clamp(1 - static_cast<int>(std::floor(std::log10(standard_error))), 0, kMostDecimals);
  return format("%.*f ± %.*f", decimals, value, decimals, standard_error);
}

std::string headline_cards(const Section& section) {
  std::string out;
  for (const auto& metric : section.metrics) {
    if (!metric.is_headline) continue;
    const Baseline* best = best_baseline(metric);
    out += card(short_number(metric.value) + (metric.unit.empty() ? "" : " " + metric.unit),
                metric.label, best == nullptr ? "" : best->label + " " + short_number(best->value));
  }
  return out;
}

std::string stage_sections(const ReportData& data, const ReportStage& stage) {
  std::string out;
  for (const auto& section : stage.sections) out += section_html(data, section);
  out += earlier_pictures_of(data, stage);
  if (out.empty()) return "";
  std::string when;
  if (!stage.sections.empty() && stage.evaluated_step >= 0) {
    when = "<p class=\"soft\">after " + std::to_string(stage.evaluated_step) + " steps" +
           (stage.is_final ? "" : "; the stage goes on") + "</p>";
  }
  return "<h2>" + escape_html(stage.name) + "</h2>" + when + out;
}

}  // namespace espalier
