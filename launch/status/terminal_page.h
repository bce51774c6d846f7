#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "trainer/record/metrics.h"

namespace espalier {

// What `espalier status --watch` shows: the status page for people whose browser is far away.
struct TerminalView {
  nlohmann::json status;  // of the coordinator, or the last that it said, or run.json's
  std::string note;       // why `status` is not of now; "" = it is
  const MetricsHistory* metrics = nullptr;
};

std::string clock_text(double unix_s);  // "12:05:09", of this machine's time zone

// Lines of at most `columns` characters, `rows` of them at most: state, progress, a small curve for
// each loss of the newest stage, ranks, events. `with_colors`: escape sequences that take no place.
std::vector<std::string> terminal_page(const TerminalView& view, int columns, int rows,
                                       bool with_colors);

}  // namespace espalier
