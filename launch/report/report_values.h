#pragma once

#include <string>
#include <vector>

#include "launch/report/report_data.h"

namespace espalier {

// Values out of evaluations, as HTML or as numbers; whatever is missing is "–", NaN or empty.
std::string text_of(const nlohmann::json& value);
std::string spaced(std::string key);  // "group_knn" -> "group knn"
double number_of(const nlohmann::json& object, const std::string& key);
std::vector<double> numbers_of(const nlohmann::json& object, const std::string& key);

// The object of that name out of whichever stage's evaluation has it, and that stage's name.
const nlohmann::json& section_of(const ReportData& data, const std::string& name);
std::string stage_with(const ReportData& data, const std::string& name);

std::string panel(const std::string& chart);

}  // namespace espalier
