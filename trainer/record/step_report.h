#pragma once

#include <cstdint>
#include <map>
#include <string>

#include <nlohmann/json.hpp>

namespace espalier {

// One finished step, equal on all ranks but for the times.
struct StepReport {
  std::string stage;
  int64_t step = 0;         // steps of the stage done, this one included
  int64_t stage_steps = 0;  // steps of the stage in all
  int64_t global_step = 0;  // the same over all stages
  int64_t total_steps = 0;
  int64_t samples = 0;  // consumed by the stage so far, over all ranks
  // Means since the last line of the log, over valid targets; of a loss whose objective was not
  // drawn since then there is none. The total is explained in update/loss_meter.h.
  std::map<std::string, double> losses;
  double total_loss = 0;
  double learning_rate = 0;
  double grad_norm = 0;
  bool skipped = false;  // gradients were not finite: weights unchanged
  double samples_per_s = 0;
  double tokens_per_s = 0;  // positions of text, images and so on, over all ranks
  std::map<std::string, double> tokens_per_step;  // of these, by objective: the achieved mix
  double flops_per_s = 0;                         // estimated (update/work_meter.h), over all ranks
  double peak_share = 0;                 // of what their devices could at most; 0 = not known
  int64_t host_memory_bytes = 0;         // the most that this rank's process held so far
  int64_t device_memory_bytes = 0;       // the most that it had of a GPU; 0 = none
  double eta_s = 0;                      // to the end of the stage
  std::map<std::string, double> time_s;  // of this rank, per step, by phase
};

// As it stands in metrics.jsonl and /status.json and travels in METRICS. Numbers that are not
// finite become null when the JSON is written: it has no words for them.
nlohmann::json to_json(const StepReport& report);
// Missing or mistyped fields keep their defaults: what a peer sends is not to be trusted.
StepReport step_report_from_json(const nlohmann::json& json);

}  // namespace espalier
