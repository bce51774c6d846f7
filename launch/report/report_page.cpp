#include "launch/report/report_page.h"

#include <algorithm>
#include <ctime>
#include <filesystem>

#include "launch/report/report_bars.h"
#include "launch/report/report_chart.h"
#include "launch/report/report_json.h"
#include "launch/report/report_sections.h"
#include "launch/report/report_style.h"
#include "launch/report/report_svg.h"
#include "launch/worker/progress.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/errors.h"
#include "trainer/record/json_text.h"

namespace espalier {
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

std::string panel(const std::string& chart) {
  return chart.empty() ? "" : "<div class=\"panel\">" + chart + "</div>";
}

// A JSON value as text on the page.
std::string text_of(const json& value) {
  if (value.is_number_float()) return short_number(value.get<double>());
  if (value.is_string()) return escape_html(value.get<std::string>());
  if (value.is_null()) return "–";
  return escape_html(json_text(value));
}

std::string spaced(std::string key) {  // "samples_per_s" -> "samples per s"
  std::replace(key.begin(), key.end(), '_', ' ');
  return escape_html(key);
}

std::string shares_part(const char* title, const std::map<std::string, double>& parts,
                        const char* unit) {
  std::vector<Bar> bars;
  for (const auto& [name, value] : parts) bars.push_back({name, value});
  std::stable_sort(bars.begin(), bars.end(),
                   [](const Bar& a, const Bar& b) { return a.value > b.value; });
  const std::string chart = share_chart(bars, unit);
  if (chart.empty()) return "";
  return "<h3>" + std::string(title) + "</h3><div class=\"panel\">" + chart + "</div>";
}

std::string training_part(const ReportStage& stage) {
  std::string out = "<h2>Training: " + escape_html(stage.name) + "</h2><div class=\"grid\">";
  int color = 0;
  for (const auto& curve : stage.losses) {
    out += panel(line_chart(curve, {"loss: " + curve.name, "", true, true, color}));
    for (const auto& held_out : stage.validation) {
      if (held_out.name != "validation/" + curve.name) continue;
      out += panel(line_chart(held_out, {held_out.name, "", true, false, color}));
    }
    ++color;
  }
  for (const auto& held_out : stage.validation) {
    if (held_out.name != "validation/total") continue;
    out += panel(line_chart(held_out, {held_out.name, "", true, false, color++}));
  }
  if (stage.losses.size() != 1) {
    out += panel(line_chart(stage.total_loss, {"loss, weighted sum", "", true, true, color++}));
  }
  out += panel(line_chart(stage.grad_norm, {"gradient norm", "", true, true, color++}));
  out += panel(line_chart(stage.learning_rate, {"learning rate", "", false, false, color++}));
  out += panel(line_chart(stage.samples_per_s, {"samples/s", "", false, true, color++}));
  out += "</div>";
  if (stage.tokens.size() > 1) {
    out += shares_part("Tokens trained on, by objective", stage.tokens, "tokens");
  }
  return out + shares_part("Where the time of a step goes", stage.phase_s, "s");
}

std::string throughput_part(const ReportData& data) {
  std::string rows;
  for (const auto& stage : data.stages) {
    rows += "<tr><td>" + escape_html(stage.name) + "</td><td class=\"n\">" +
            short_number(stage.mean_samples_per_s) + "</td><td class=\"n\">" +
            format_duration(stage.training_s) + "</td><td class=\"n\">" +
            format_duration(stage.evaluation_s) + "</td></tr>";
  }
  if (rows.empty()) return "";
  return "<h2>Throughput and time</h2><table><tr><th>stage</th><th class=\"n\">samples/s</th>"
         "<th class=\"n\">training</th><th class=\"n\">evaluation</th></tr>" +
         rows + "</table>";
}

std::string clock_time(double unix_s) {
  const auto seconds = static_cast<std::time_t>(unix_s);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &utc);
  return text;
}

std::string events_part(const ReportData& data) {
  std::string rows;
  for (const json& event : data.events) {
    json rest = event;
    for (const char* key : {"time", "generation", "event", "text", "source"}) rest.erase(key);
    std::string what = escape_html(event.value("text", std::string()));
    for (const auto& [key, value] : rest.items()) {
      what += (what.empty() ? "" : " · ") + spaced(key) + " " + text_of(value);
    }
    rows += "<tr><td>" + clock_time(event.value("time", 0.0)) + "</td><td class=\"n\">" +
            std::to_string(event.value("generation", 0)) + "</td><td>" +
            spaced(event.value("event", std::string())) + "</td><td>" + what + "</td></tr>";
  }
  if (rows.empty()) return "";
  return "<h2>What happened</h2><details" + std::string(data.generations > 1 ? " open" : "") +
         "><summary>" + std::to_string(data.events.size()) +
         " events (UTC)</summary><div class=\"scroll\"><table><tr><th>time</th><th class=\"n\">"
         "generation</th><th>event</th><th></th></tr>" +
         rows + "</table></div></details>";
}

std::string headline(const ReportData& data) {
  std::string out;
  for (const auto& stage : data.stages) {
    for (const auto& section : stage.sections) out += headline_cards(section);
  }
  for (const auto& stage : data.stages) {
    out += card(short_number(stage.mean_samples_per_s), "samples/s, " + stage.name,
                "trained for " + format_duration(stage.training_s));
  }
  return out.empty() ? "" : "<div class=\"cards\">" + out + "</div>";
}

std::string summary(const ReportData& data) {
  return "<p class=\"soft\">" + escape_html(data.status.value("state", std::string("unknown"))) +
         " at step " + std::to_string(data.status.value("step", int64_t{-1})) + " of " +
         std::to_string(data.status.value("total_steps", int64_t{0})) + " · " +
         std::to_string(data.world_size) + (data.world_size == 1 ? " rank" : " ranks") + " (" +
         escape_html(data.status.value("backend", std::string())) + ", " +
         escape_html(data.status.value("device", std::string())) + ") · " +
         std::to_string(data.generations) + (data.generations == 1 ? " launch" : " launches") +
         " · " + format_duration(data.wall_s) + " in all</p>";
}

}  // namespace

std::string report_page(const ReportData& data) {
  const std::string name = escape_html(fs::path(data.run_directory).filename().string());
  std::string page =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name="
      "\"viewport\" content=\"width=device-width, initial-scale=1\"><title>" +
      name + " · Espalier</title><style>" + report_style() + "</style></head><body><main>";
  page += "<h1>" + name + "</h1>" + summary(data) + headline(data);
  for (const auto& stage : data.stages) page += stage_sections(data, stage);
  for (const auto& stage : data.stages) page += training_part(stage);
  page += throughput_part(data) + events_part(data);
  if (!data.config.empty()) {
    page +=
        "<h2>Config</h2><details><summary>every setting, and where it came from</summary><pre>" +
        escape_html(data.config) + "</pre></details>";
  }
  return page + "</main></body></html>\n";
}

std::string write_report(const std::string& run_directory) {
  const ReportData data = read_report_data(run_directory);
  const std::string page = run_directory + "/report.html";
  try {
    replace_durably(run_directory + "/report.json", json_text(report_json(data), 2) + "\n");
    replace_durably(page, report_page(data));
  } catch (const StorageError& error) {  // a folder that is not ours to write
    throw ConfigError(error.what());
  }
  return page;
}

}  // namespace espalier
