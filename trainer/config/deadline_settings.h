#pragma once

#include <cstdint>
#include <string>

#include "trainer/config/settings.h"

namespace espalier {

// How long anything may take before somebody gives up on it. Seconds, where not said otherwise.
struct DeadlineConfig {
  // Without a beat; ranks beat once a second.
  double suspect_after = 5;
  double dead_after = 15;
  // A rank on another host whose connection closed: it comes back, or is taken for dead.
  double hung_up = 2;
  // Without progress, by phase. A step's is the larger of the floor and the factor times the
  // slowest of the latest steps.
  double setup = 900;
  double step_floor = 60;
  double step_factor = 5;
  double checkpoint = 600;
  double evaluation = 900;
  // Ending.
  double drain = 300;
  double kill_grace = 10;
  double lost_rank_grace = 5;
  double coordinator_away = 120;
  // Hosts: how long one may take to answer, how often those that are away are looked for, and how
  // long a launch waits for enough of them.
  double host_answer = 8;
  double host_retry = 10;
  double hosts = 1800;
  // Starting again.
  double backoff_base = 1;
  double backoff_cap = 300;
  int64_t launches_without_commit = 3;
  // One operation between ranks, without progress: longer than any phase in which one rank may work
  // while the others wait for it, so that the coordinator is the first to name it.
  double mpi = 1000;
  double nccl = 1000;
  double abort_grace = 30;
};

// Under the prefix "deadline.".
void declare_deadline_settings(Settings& settings, DeadlineConfig& config);

// What no range of one setting says. Throws ConfigError, whose message starts with `origin`.
void validate_deadlines(const DeadlineConfig& config, const std::string& origin);

}  // namespace espalier
