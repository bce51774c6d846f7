#include "launch/protocol/step_message.h"

#include <cmath>

namespace espalier {
namespace {

template <class T>
void read(const nlohmann::json& json, const char* name, T* value) {
  const auto field = json.find(name);
  if (field == json.end()) return;
  if constexpr (std::is_same_v<T, std::string>) {
    if (field->is_string()) *value = field->get<std::string>();
  } else if constexpr (std::is_same_v<T, bool>) {
    if (field->is_boolean()) *value = field->get<bool>();
  } else if (field->is_number()) {
    *value = field->get<T>();
  }
}

void read(const nlohmann::json& json, const char* name, std::map<std::string, double>* value) {
  const auto field = json.find(name);
  if (field == json.end() || !field->is_object()) return;
  for (const auto& [key, number] : field->items()) {
    if (number.is_number()) (*value)[key] = number.get<double>();
  }
}

}  // namespace

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
  if (!json.is_object()) return report;
  read(json, "stage", &report.stage);
  read(json, "step", &report.step);
  read(json, "stage_steps", &report.stage_steps);
  read(json, "global_step", &report.global_step);
  read(json, "total_steps", &report.total_steps);
  read(json, "samples", &report.samples);
  read(json, "losses", &report.losses);
  read(json, "total_loss", &report.total_loss);
  read(json, "learning_rate", &report.learning_rate);
  read(json, "grad_norm", &report.grad_norm);
  read(json, "skipped", &report.skipped);
  read(json, "samples_per_s", &report.samples_per_s);
  read(json, "eta_s", &report.eta_s);
  read(json, "time_s", &report.time_s);
  return report;
}

}  // namespace espalier
