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
          {"eta_s", report.eta_s},
          {"time_s", report.time_s}};
}

StepReport step_report_from_json(const nlohmann::json& json) {
  StepReport report;
  read_field(json, "stage", &report.stage);
  read_field(json, "step", &report.step);
  read_field(json, "stage_steps", &report.stage_steps);
  read_field(json, "global_step", &report.global_step);
  read_field(json, "total_steps", &report.total_steps);
  read_field(json, "samples", &report.samples);
  read_field(json, "losses", &report.losses);
  read_field(json, "total_loss", &report.total_loss);
  read_field(json, "learning_rate", &report.learning_rate);
  read_field(json, "grad_norm", &report.grad_norm);
  read_field(json, "skipped", &report.skipped);
  read_field(json, "samples_per_s", &report.samples_per_s);
  read_field(json, "eta_s", &report.eta_s);
  read_field(json, "time_s", &report.time_s);
  return report;
}

}  // namespace espalier
