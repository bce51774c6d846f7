#pragma once

#include <nlohmann/json.hpp>

#include "trainer/run_observer.h"

namespace espalier {

// A StepReport as it travels in METRICS and stands in /status.json.
nlohmann::json to_json(const StepReport& report);
// Missing or mistyped fields keep their defaults: what a peer sends is not to be trusted.
StepReport step_report_from_json(const nlohmann::json& json);

}  // namespace espalier
