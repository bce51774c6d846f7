#pragma once

#include <chrono>
#include <cstdio>
#include <mutex>
#include <string>
#include <string_view>

#include "trainer/run_observer.h"

namespace espalier {

std::string format_duration(double seconds);  // "0:42", "12:05", "1:02:03"
// stage [████░░░░] step/steps loss samples/s ETA phase, in at most `columns` characters.
std::string format_bar(const StepReport& report, std::string_view phase, int columns);
std::string format_line(const StepReport& report);
std::string format_work(const WorkReport& report, double eta_s);

// Progress of a run on a stream: one bar that is redrawn in place on a terminal, a plain line every
// ten seconds and at the end of each stage otherwise; nothing but say() with --quiet. Any thread
// may call.
class Progress {
 public:
  explicit Progress(std::FILE* out);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void step(const StepReport& report);
  void phase(Phase phase);
  void work(const WorkReport& report);
  // A line of text that stays; the bar moves below it.
  void say(const std::string& line);
  // The bar stays as it is, and what follows starts on a new line.
  void close();

 private:
  // With the mutex held.
  void draw();
  void draw(const std::string& bar);

  std::mutex mutex_;
  std::FILE* out_;
  bool terminal_;
  bool quiet_;
  bool drawn_ = false;
  bool have_report_ = false;
  StepReport report_;
  Phase phase_ = Phase::kSetup;
  std::string work_;  // the long task that is, or was last, under way
  int64_t work_done_ = 0;
  std::chrono::steady_clock::time_point work_start_{};
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace espalier
