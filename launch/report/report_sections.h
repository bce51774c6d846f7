#pragma once

#include <string>

#include "launch/report/report_data.h"

namespace espalier {

// What the evaluations of a stage found, section by section, and its pictures; "" where there is
// nothing to show yet. Knows no metric by name: sections describe themselves.
std::string stage_sections(const ReportData& data, const ReportStage& stage);

// Cards of the metrics that are headlines: value, label, and the best baseline beside it.
std::string headline_cards(const Section& section);

std::string card(const std::string& value, const std::string& what, const std::string& beside);

// "0.573 ± 0.014": as many digits as the error leaves meaning to.
std::string with_error(double value, double standard_error);

}  // namespace espalier
