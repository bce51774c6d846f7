#include "trainer/record/step_report.h"

#include "trainer/record/json_field.h"

namespace espalier {

nlohmann::json to_json(const StepReport& report) {
  return {{"stage", report.stage},
          {"step", report.step},
          {"stage_steps", report.stage_steps},
          {"global_step", report.global_step},
          {"total_steps", report.total_steps},
          {"samples", report.samples},
          {"losses", report.losses},
          {"total_loss", report.total_loss},
          {"learning_rate", report.learning_rate},
          {"grad_norm", report.grad_norm},
          {"skipped", report.skipped},
          {"samples_per_s", report.samples_per_s},
          {"tokens_per_s", report.tokens_per_s},
          {"tokens_per_step", report.tokens_per_step},
          {"flops_per_s", report.flops_per_s},
          {"peak_share", report.peak_share},
          {"host_memory_bytes", report.host_memory_bytes},
          {"device_memory_bytes", report.device_memory_bytes},
          {"eta_s", report.eta_s},
          {"time_s", report.time_s}};
}

StepReport step_report_from_json(const nlohmann::json& message) {
  StepReport report;
  read_field(message, "stage", &report.stage);
  read_field(message, "step", &report.step);
  read_field(message, "stage_steps", &report.stage_steps);
  read_field(message, "global_step", &report.global_step);
  read_field(message, "total_steps", &report.total_steps);
  read_field(message, "samples", &report.samples);
  read_field(message, "losses", &report.losses);
  read_field(message, "total_loss", &report.total_loss);
  read_field(message, "learning_rate", &report.learning_rate);
  read_field(message, "grad_norm", &report.grad_norm);
  read_field(message, "skipped", &report.skipped);
  read_field(message, "samples_per_s", &report.samples_per_s);
  read_field(message, "tokens_per_s", &report.tokens_per_s);
  read_field(message, "tokens_per_step", &report.tokens_per_step);
  read_field(message, "flops_per_s", &report.flops_per_s);
  read_field(message, "peak_share", &report.peak_share);
  read_field(message, "host_memory_bytes", &report.host_memory_bytes);
  read_field(message, "device_memory_bytes", &report.device_memory_bytes);
  read_field(message, "eta_s", &report.eta_s);
  read_field(message, "time_s", &report.time_s);
  return report;
}

}  // namespace espalier
