#include "launch/report/report_values.h"

#include <algorithm>
#include <cmath>

#include "launch/report/report_chart.h"

namespace espalier {
using nlohmann::json;

std::string text_of(const json& value) {
  if (value.is_number_float()) return short_number(value.get<double>());
  if (value.is_string()) return escape_html(value.get<std::string>());
  if (value.is_null()) return "–";
  return escape_html(value.dump());
}

std::string spaced(std::string key) {
  std::replace(key.begin(), key.end(), '_', ' ');
  return escape_html(key);
}

double number_of(const json& object, const std::string& key) {
  if (!object.is_object()) return std::nan("");
  const auto field = object.find(key);
  return field != object.end() && field->is_number() ? field->get<double>() : std::nan("");
}

std::vector<double> numbers_of(const json& object, const std::string& key) {
  std::vector<double> out;
  if (!object.is_object() || !object.contains(key) || !object[key].is_array()) return out;
  for (const auto& value : object[key]) {
    out.push_back(value.is_number() ? value.get<double>() : std::nan(""));
  }
  return out;
}

const json& section_of(const ReportData& data, const std::string& name) {
  static const json none = json::object();
  for (const auto& stage : data.stages) {
    if (stage.evaluation.is_object() && stage.evaluation.contains(name)) {
      return stage.evaluation[name];
    }
  }
  return none;
}

std::string stage_with(const ReportData& data, const std::string& name) {
  for (const auto& stage : data.stages) {
    if (stage.evaluation.is_object() && stage.evaluation.contains(name)) return stage.name;
  }
  return "";
}

std::string panel(const std::string& chart) {
  return chart.empty() ? "" : "<div class=\"panel\">" + chart + "</div>";
}

}  // namespace espalier
