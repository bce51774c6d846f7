#pragma once

#include <string>

#include "launch/report/report_data.h"

namespace espalier {

// The parts of the page that show what was learnt; "" where a run has nothing to show yet.
std::string tokenizer_section(const ReportData& data);
std::string understanding_section(const ReportData& data);
std::string generation_section(const ReportData& data);

// Pictures of a stage's last evaluation, and folded away, those made while it trained.
std::string pictures_of(const ReportData& data, const std::string& stage);

std::string base64(const std::string& bytes);

}  // namespace espalier
