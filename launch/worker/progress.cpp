#include "launch/worker/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include <spdlog/spdlog.h>

#include "launch/status/text_chart.h"

namespace espalier {
namespace {

constexpr auto kRedrawPeriod = std::chrono::milliseconds(100);
constexpr auto kLinePeriod = std::chrono::seconds(10);
constexpr int kBarCells = 24;

template <class... Args>
std::string format(const char* pattern, Args... args) {
  char text[160];
  std::snprintf(text, sizeof(text), pattern, args...);
  return text;
}

std::string numbers(const StepReport& report) {
  std::string text =
      format("%lld/%lld  loss %.4f  %.0f samples/s", static_cast<long long>(report.step),
             static_cast<long long>(report.stage_steps), report.total_loss, report.samples_per_s);
  if (report.tokens_per_s > 0) text += format("  %.0f tokens/s", report.tokens_per_s);
  text += "  ETA " + format_duration(report.eta_s);
  return text;
}

// 0 where nobody looks: a file, a pipe, or the terminal without a size that mpirun puts between a
// rank and its own output.
int terminal_columns(std::FILE* out) {
  winsize size{};
  if (::isatty(::fileno(out)) != 1 || ::ioctl(::fileno(out), TIOCGWINSZ, &size) != 0) return 0;
  return size.ws_col;
}

}  // namespace

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "-";
  const long total = std::lround(seconds);
  return total < 3600 ? format("%ld:%02ld", total / 60, total % 60)
                      : format("%ld:%02ld:%02ld", total / 3600, total / 60 % 60, total % 60);
}

namespace {

std::string cells(int64_t done, int64_t total) {
  const double part = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 0;
  const int full = std::clamp(static_cast<int>(part * kBarCells), 0, kBarCells);
  std::string out;
  for (int cell = 0; cell < kBarCells; ++cell) out += cell < full ? "█" : "░";
  return out;
}

}  // namespace

std::string format_bar(const StepReport& report, std::string_view phase, int columns) {
  return cut_to_columns(report.stage + " " + cells(report.step, report.stage_steps) + " " +
                            numbers(report) + "  " + std::string(phase),
                        columns);
}

std::string format_line(const StepReport& report) {
  std::string line = report.stage + " " + numbers(report);
  if (report.losses.size() > 1) {
    line += " ";
    for (const auto& [name, loss] : report.losses) line += " " + name + format(" %.4f", loss);
  }
  if (report.flops_per_s > 0) line += format("  %.3g TFLOP/s", report.flops_per_s / 1e12);
  if (report.peak_share > 0) line += format(" (%.0f%% of peak)", 100 * report.peak_share);
  constexpr double kGiB = 1 << 30;
  if (report.host_memory_bytes > 0) {
    line += format("  %.1f GiB", static_cast<double>(report.host_memory_bytes) / kGiB);
  }
  if (report.device_memory_bytes > 0) {
    line += format(", GPU %.1f GiB", static_cast<double>(report.device_memory_bytes) / kGiB);
  }
  return line;
}

std::string format_work(const WorkReport& report, double eta_s) {
  return format("%.*s %lld/%lld  ETA %s", static_cast<int>(report.what.size()), report.what.data(),
                static_cast<long long>(report.done), static_cast<long long>(report.total),
                format_duration(eta_s).c_str());
}

Progress::Progress(std::FILE* out)
    : out_(out),
      terminal_(terminal_columns(out) > 0),
      quiet_(!spdlog::should_log(spdlog::level::info)) {}

Progress::~Progress() { close(); }

void Progress::step(const StepReport& report) {
  if (quiet_) return;
  const std::lock_guard lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  const bool stage_ends = report.step == report.stage_steps && report_.step != report.step;
  const bool first = !have_report_ || report_.stage != report.stage;
  report_ = report;
  have_report_ = true;
  if (!first && !stage_ends && now - last_ < (terminal_ ? kRedrawPeriod : kLinePeriod)) return;
  last_ = now;
  if (terminal_) {
    draw();
  } else {
    std::fprintf(out_, "%s\n", format_line(report).c_str());
    std::fflush(out_);
  }
}

void Progress::phase(Phase phase) {
  if (quiet_) return;
  const std::lock_guard lock(mutex_);
  if (phase == phase_) return;
  phase_ = phase;
  const auto now = std::chrono::steady_clock::now();
  if (!terminal_ || !have_report_ || now - last_ < kRedrawPeriod) return;
  last_ = now;
  draw();
}

void Progress::work(const WorkReport& report) {
  if (quiet_) return;
  const std::lock_guard lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  const bool begins = report.what != work_ || report.done < work_done_;
  if (!begins && report.done == work_done_) return;
  work_done_ = report.done;
  if (begins) {
    work_ = report.what;
    work_start_ = now;
  }
  const bool ends = report.done >= report.total;
  if (!begins && !ends && now - last_ < (terminal_ ? kRedrawPeriod : kLinePeriod)) return;
  last_ = now;
  const double elapsed = std::chrono::duration<double>(now - work_start_).count();
  const double eta = begins || report.done == 0
                         ? -1
                         : elapsed * static_cast<double>(report.total - report.done) /
                               static_cast<double>(report.done);
  const std::string line = format_work(report, eta);
  if (terminal_) {
    draw(line + "  " + cells(report.done, report.total));
  } else {
    std::fprintf(out_, "%s\n", line.c_str());
    std::fflush(out_);
  }
}

void Progress::say(const std::string& line) {
  const std::lock_guard lock(mutex_);
  if (drawn_) std::fputs("\r\033[K", out_);
  std::fprintf(out_, "%s\n", line.c_str());
  if (drawn_) draw();
  std::fflush(out_);
}

void Progress::draw() { draw(format_bar(report_, name_of(phase_), terminal_columns(out_) - 1)); }

void Progress::draw(const std::string& bar) {
  std::fprintf(out_, "\r\033[K%s", cut_to_columns(bar, terminal_columns(out_) - 1).c_str());
  std::fflush(out_);
  drawn_ = true;
}

void Progress::close() {
  const std::lock_guard lock(mutex_);
  if (drawn_) std::fputs("\n", out_);
  drawn_ = false;
}

}  // namespace espalier
