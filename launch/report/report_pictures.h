#pragma once

#include <string>

#include "launch/report/report_data.h"

namespace espalier {

// A figure with the PNG file inside; "" when it cannot be read.
std::string figure(const std::string& path, const std::string& name, const std::string& caption);

// The pictures of a section with their captions.
std::string pictures_of(const ReportData& data, const Section& section);

// Those made before a stage's last evaluation, folded away: of each picture a few, spread over the
// steps.
std::string earlier_pictures_of(const ReportData& data, const ReportStage& stage);

std::string base64(const std::string& bytes);

}  // namespace espalier
