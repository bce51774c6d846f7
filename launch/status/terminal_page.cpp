#include "launch/status/terminal_page.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "launch/status/text_chart.h"
#include "launch/worker/progress.h"
#include "trainer/record/step_report.h"

namespace espalier {
namespace {

using nlohmann::json;

constexpr int kChartRows = 4, kChartGap = 3, kLeastChartColumns = 30;

struct Curve {
  std::string name;
  std::vector<std::pair<double, double>> points;
};

// Losses of the newest stage over its steps, the total first.
std::vector<Curve> curves_of(const MetricsHistory& metrics) {
  std::vector<Curve> curves = {{"total", {}}};
  if (metrics.by_step().empty()) return curves;
  const std::string stage = metrics.by_step().rbegin()->second.value("stage", std::string());
  std::map<std::string, size_t> places;
  const auto add = [](Curve& curve, double step, const json& value) {
    if (value.is_number()) curve.points.emplace_back(step, value.get<double>());
  };
  for (const auto& [global_step, line] : metrics.by_step()) {
    if (line.value("stage", std::string()) != stage) continue;
    const auto step = static_cast<double>(line.value("step", global_step));
    add(curves[0], step, line.value("total_loss", json()));
    const json losses = line.value("losses", json::object());
    for (const auto& [name, value] : losses.items()) {
      const auto [place, is_new] = places.try_emplace(name, curves.size());
      if (is_new) curves.push_back({name, {}});
      add(curves[place->second], step, value);
    }
  }
  if (curves.size() == 2) curves.pop_back();  // the total is that loss
  return curves;
}

std::string number(const char* pattern, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), pattern, value);
  return text;
}

class Page {
 public:
  Page(int columns, bool with_colors) : columns_(columns), with_colors_(with_colors) {}

  // `code`: of a "select graphic rendition" sequence.
  void line(const std::string& text, const char* code = "") {
    const std::string cut = cut_to_columns(text, columns_);
    const bool is_plain = !with_colors_ || *code == '\0';
    lines_.push_back(is_plain ? cut : "\033[" + std::string(code) + "m" + cut + "\033[0m");
  }
  int columns() const { return columns_; }
  size_t size() const { return lines_.size(); }
  std::vector<std::string> take() { return std::move(lines_); }

 private:
  int columns_;
  bool with_colors_;
  std::vector<std::string> lines_;
};

constexpr const char *kGood = "32", *kBad = "31", *kFaint = "2", *kStrong = "1";

void add_state(Page& page, const TerminalView& view) {
  const json& status = view.status;
  const std::string state = status.value("state", std::string("unknown"));
  page.line(status.value("run", std::string()), kStrong);
  if (!view.note.empty()) page.line(view.note, kBad);
  std::string facts = (view.note.empty() ? "" : "last known: ") + state;
  if (status.value("stopping", false)) facts += " (stopping)";
  facts += "  generation " + std::to_string(status.value("generation", 0)) + ", " +
           std::to_string(status.value("world_size", 0)) + " ranks";
  if (status.contains("restarts")) {
    facts += ", " + std::to_string(status.value("restarts", 0)) + " restarts";
    const int64_t commit = status.value("last_commit_step", int64_t{-1});
    facts += ", last checkpoint " + (commit < 0 ? "none" : "step " + std::to_string(commit));
    facts += ", up " + format_duration(status.value("uptime_s", 0.0));
  }
  page.line(facts, view.note.empty() && state != "failed" ? kGood : kBad);
}

void add_progress(Page& page, const TerminalView& view) {
  StepReport report;
  if (const auto progress = view.status.find("progress");
      progress != view.status.end() && progress->is_object()) {
    report = step_report_from_json(*progress);
  } else if (view.metrics != nullptr && !view.metrics->by_step().empty()) {
    report = step_report_from_json(view.metrics->by_step().rbegin()->second);
  } else {
    return;
  }
  std::string phase;
  const json ranks = view.status.value("ranks", json::array());
  if (!ranks.empty() && ranks[0].is_object()) phase = ranks[0].value("phase", phase);
  page.line(format_bar(report, phase, page.columns()));
  if (report.total_steps > 0 && report.total_steps != report.stage_steps) {
    page.line("all stages: step " + std::to_string(report.global_step) + " of " +
                  std::to_string(report.total_steps),
              kFaint);
  }
}

// Small charts, beside each other where there is room; each on a scale of its own.
void add_curves(Page& page, const std::vector<Curve>& curves, int rows) {
  const int beside = std::clamp((page.columns() + kChartGap) / (kLeastChartColumns + kChartGap), 1,
                                static_cast<int>(curves.size()));
  const int width = (page.columns() - kChartGap * (beside - 1)) / beside;
  for (size_t first = 0; first < curves.size(); first += static_cast<size_t>(beside)) {
    if (static_cast<int>(page.size()) + kChartRows + 1 > rows) return;
    const size_t end = std::min(curves.size(), first + static_cast<size_t>(beside));
    std::vector<std::string> block(kChartRows + 1);
    for (size_t i = first; i < end; ++i) {
      const auto& points = curves[i].points;
      std::string title = curves[i].name;
      if (!points.empty()) {
        const auto by_value = [](const auto& a, const auto& b) { return a.second < b.second; };
        const auto least = std::min_element(points.begin(), points.end(), by_value);
        // The value first: of a narrow chart the end of the name is cut.
        title = number("%.4g  ", points.back().second) + title +
                number("  (least %.4g)", least->second);
      }
      const std::vector<std::string> chart = text_chart(points, width, kChartRows);
      const std::string gap(i == first ? 0 : kChartGap, ' ');
      block[0] += gap + fit_to_columns(title, width);
      for (int row = 0; row < kChartRows; ++row) {
        block[static_cast<size_t>(row) + 1] += gap + chart[static_cast<size_t>(row)];
      }
    }
    for (size_t row = 0; row < block.size(); ++row) page.line(block[row], row == 0 ? "" : kGood);
  }
}

void add_ranks(Page& page, const json& ranks, int rows) {
  if (ranks.empty()) return;
  char text[256];
  std::snprintf(text, sizeof(text), "%5s %-14s %9s  %-18s %9s %9s  %s", "rank", "host", "step",
                "phase", "beat", "progress", "waits for");
  page.line(text, kFaint);
  for (const json& rank : ranks) {
    if (!rank.is_object()) continue;
    if (static_cast<int>(page.size()) + 2 > rows && &rank != &ranks.back()) {
      page.line("      and more: espalier status", kFaint);
      return;
    }
    const bool is_there = rank.value("joined", false);
    std::snprintf(text, sizeof(text), "%5d %-14s %9lld  %-18s %7.1f s %7.1f s  %s",
                  rank.value("rank", 0), rank.value("host", std::string("-")).c_str(),
                  static_cast<long long>(rank.value("step", int64_t{-1})),
                  is_there ? rank.value("phase", std::string()).c_str() : "has not joined",
                  rank.value("beat_age_s", -1.0), rank.value("progress_age_s", -1.0),
                  rank.value("waits_for", std::string()).c_str());
    page.line(text, rank.value("suspect", false) ? kBad : "");
  }
}

void add_events(Page& page, const json& events, int rows) {
  if (events.empty() || static_cast<int>(page.size()) + 2 > rows) return;
  page.line("events", kFaint);
  for (auto event = events.rbegin(); event != events.rend(); ++event) {
    if (static_cast<int>(page.size()) >= rows) return;
    if (!event->is_object()) continue;
    const std::string kind = event->value("event", std::string());
    page.line(clock_text(event->value("time", 0.0)) + "  " + fit_to_columns(kind, 22) + " " +
                  event->value("text", std::string()),
              kind == "failure" ? kBad : "");
  }
}

}  // namespace

std::string clock_text(double unix_s) {
  const auto time = static_cast<std::time_t>(unix_s);
  std::tm local{};
  ::localtime_r(&time, &local);
  char text[16];
  std::strftime(text, sizeof(text), "%H:%M:%S", &local);
  return text;
}

std::vector<std::string> terminal_page(const TerminalView& view, int columns, int rows,
                                       bool with_colors) {
  Page page(columns, with_colors);
  add_state(page, view);
  add_progress(page, view);
  page.line("");
  const json ranks = view.status.value("ranks", json::array());
  if (view.metrics != nullptr) {
    // Two ranks and two events have room below the curves.
    add_curves(page, curves_of(*view.metrics), rows - std::min<int>(4, 1 + ranks.size()) - 3);
    page.line("");
  }
  add_ranks(page, ranks, rows);
  add_events(page, view.status.value("events", json::array()), rows);
  std::vector<std::string> lines = page.take();
  if (lines.size() > static_cast<size_t>(rows)) lines.resize(static_cast<size_t>(rows));
  return lines;
}

}  // namespace espalier
