#include "launch/report/report_chart.h"
#include "launch/report/report_pictures.h"
#include "launch/report/report_sections.h"
#include "launch/report/report_style.h"
#include "launch/report/report_svg.h"
#include "launch/runs/comparison.h"
#include "trainer/config/settings.h"

namespace espalier {
namespace {

std::string row_of(const std::vector<std::string>& cells, const std::string& tag) {
  std::string out = "<tr>";
  for (const auto& cell : cells) out += "<" + tag + ">" + cell + "</" + tag + ">";
  return out + "</tr>";
}

std::vector<std::string> head(const Comparison& all, std::vector<std::string> first) {
  for (const auto& run : all.runs) first.push_back(escape_html(run.summary.name));
  return first;
}

std::string runs_part(const Comparison& all) {
  std::string out = "<div class=\"scroll\"><table>" +
                    row_of({"run", "state", "stage", "step", "loss", "best", "forked from"}, "th");
  for (const auto& run : all.runs) {
    const RunSummary& s = run.summary;
    out += row_of({escape_html(s.name), escape_html(s.state), escape_html(s.stage),
                   std::to_string(s.step) + " of " + std::to_string(s.total_steps),
                   short_number(s.loss), escape_html(s.best), escape_html(s.parent)},
                  "td");
  }
  return out + "</table></div>";
}

std::string settings_part(const Comparison& all) {
  if (all.settings.empty()) return "<h2>Settings</h2><p>None differs.</p>";
  std::string out =
      "<h2>Settings that differ</h2><div class=\"scroll\"><table>" + row_of(head(all, {""}), "th");
  for (const auto& row : all.settings) {
    std::vector<std::string> cells = {"<code>" + escape_html(row.key) + "</code>"};
    for (const auto& value : row.values) {
      cells.push_back(value.is_null() ? "–" : escape_html(toml_value(value)));
    }
    out += row_of(cells, "td");
  }
  return out + "</table></div>";
}

std::string legend(const Comparison& all) {
  std::string out = "<ul class=\"legend\">";
  for (size_t i = 0; i < all.runs.size(); ++i) {
    out += "<li><i class=\"b" + std::to_string(i % kChartColors) + "\"></i>" +
           escape_html(all.runs[i].summary.name) + "</li>";
  }
  return out + "</ul>";
}

std::string curves_part(const Comparison& all) {
  std::string out = "<h2>Curves</h2>" + legend(all) + "<div class=\"grid\">";
  for (const auto& row : all.curves) {
    const bool is_loss = row.name != "samples/s";
    const std::string chart = overlay_chart(
        row.curves, {.title = row.stage + ": " + row.name, .log_y = is_loss, .smooth = is_loss});
    if (!chart.empty()) out += "<div class=\"panel\">" + chart + "</div>";
  }
  return out + "</div>";
}

std::string metrics_part(const Comparison& all) {
  if (all.metrics.empty()) return "";
  auto names = head(all, {"stage", "metric"});
  names.emplace_back("baselines");
  std::string out =
      "<h2>What was measured</h2><p class=\"soft\">By the newest evaluation of each "
      "stage.</p><div class=\"scroll\"><table>" +
      row_of(names, "th");
  for (const auto& row : all.metrics) {
    const std::string unit = row.metric.unit.empty() ? "" : " (" + row.metric.unit + ")";
    std::vector<std::string> cells = {escape_html(row.stage),
                                      escape_html(row.section + ": " + row.metric.label + unit)};
    for (size_t i = 0; i < row.values.size(); ++i) {
      cells.push_back(with_error(row.values[i], row.standard_errors[i]));
    }
    std::string baselines;
    for (const auto& baseline : row.metric.baselines) {
      baselines += (baselines.empty() ? "" : ", ") + escape_html(baseline.label) + " " +
                   short_number(baseline.value);
    }
    cells.push_back(baselines);
    out += row_of(cells, "td");
  }
  return out + "</table></div>";
}

std::string pictures_part(const Comparison& all) {
  std::string out;
  for (const auto& row : all.pictures) {
    std::string figures;
    for (size_t i = 0; i < row.paths.size(); ++i) {
      if (row.paths[i].empty()) continue;
      figures += figure(row.paths[i], all.runs[i].summary.name, "");
    }
    if (figures.empty()) continue;
    out += "<h3>" + escape_html(row.stage + ": " + row.title + ", " + row.name) +
           "</h3><p class=\"soft\">" + escape_html(row.legend) + "</p>" + figures;
  }
  return out.empty() ? "" : "<h2>Pictures</h2>" + out;
}

}  // namespace

std::string comparison_page(const Comparison& all) {
  std::string title;
  for (const auto& run : all.runs) {
    title += (title.empty() ? "" : ", ") + escape_html(run.summary.name);
  }
  return "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name="
         "\"viewport\" content=\"width=device-width, initial-scale=1\"><title>" +
         title + " · Espalier</title><style>" + report_style() + "</style></head><body><main><h1>" +
         title + "</h1>" + runs_part(all) + settings_part(all) + curves_part(all) +
         metrics_part(all) + pictures_part(all) + "</main></body></html>\n";
}

}  // namespace espalier
