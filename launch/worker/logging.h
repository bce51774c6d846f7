#pragma once

#include <string>

#include "launch/worker/launcher_detection.h"
#include "launch/worker/progress.h"

namespace espalier {

// A training process: lines say time, rank and generation, and pass above the progress bar.
// `progress` may be null and must live until log_plainly(). SPDLOG_LEVEL=debug shows more.
void log_for_worker(const RankPlace& place, Progress* progress);
void log_to_file(const std::string& path);  // the coordinator: its terminal belongs to the bar
void log_plainly();                         // to stderr

// https://no-color.org: NO_COLOR is set and not empty.
bool is_colour_unwanted();

// "debug", "warn": for this process and the ranks that it starts, from here on.
void set_log_level(const std::string& level);

// stdout and stderr of this process go to the end of DIRECTORY/rank-N.log from here on.
void redirect_output(const std::string& directory, int rank);

}  // namespace espalier
