#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "launch/coordinator/coordinator.h"
#include "launch/protocol/messages.h"
#include "launch/worker/progress.h"

namespace espalier {

// What people get to see of a run: the coordinator's terminal, and the JSON behind the status page.
class RunStatus {
 public:
  explicit RunStatus(std::string run_directory);

  void say(const std::string& line) { progress_.say(line); }
  // An entry of events.jsonl; the newest stay on the page.
  void event(nlohmann::json entry);
  // Of rank 0.
  void beat(const BeatMessage& message);
  void metrics(const MetricsMessage& message);
  void close() { progress_.close(); }

  nlohmann::json to_json(const Coordinator& machine, Seconds now, int64_t refused_peers) const;

 private:
  const std::string run_directory_;
  Progress progress_;
  std::optional<StepReport> report_;
  std::vector<std::pair<int64_t, double>> losses_;  // total by global step, thinned out
  std::vector<nlohmann::json> events_;
};

}  // namespace espalier
