#pragma once

#include <nlohmann/json.hpp>

#include "launch/report/report_data.h"

namespace espalier {

// report.json:
// {"run": {…}, "time_s": {"total": …},
//  "stages": {STAGE: {"samples_per_s": …, "time_s": {PHASE: …, "training": …, "evaluation": …},
//    "evaluated_step": …,
//    "sections": {SECTION: {"title": …, "text": …,
//      "metrics": {METRIC: {"label", "unit", "value", "standard_error",
//                           "baselines": {LABEL: value}}},
//      "series": {SERIES: {"label", "unit", "axis", "places", "values", "baselines"}},
//      "tables": [{"title", "columns", "rows"}], "pictures": [{"name", "path", "legend"}]}}}}}
// Unknown numbers are null; paths of pictures are relative to the run.
nlohmann::json report_json(const ReportData& data);

}  // namespace espalier
