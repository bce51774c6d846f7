#include "trainer/evaluation/section.h"

#include <cmath>

#include <nlohmann/json.hpp>

namespace espalier {
namespace {

using nlohmann::json;

json number(double value) { return std::isfinite(value) ? json(value) : json(); }

// to_json() of every item, as a list.
template <class Item, class Function>
json list_of(const std::vector<Item>& items, Function to_item) {
  json list = json::array();
  for (const Item& item : items) list.push_back(to_item(item));
  return list;
}

json baseline_json(const Baseline& baseline) {
  return {{"label", baseline.label}, {"value", number(baseline.value)}};
}

json metric_json(const Metric& metric) {
  return {{"name", metric.name},
          {"label", metric.label},
          {"value", number(metric.value)},
          {"standard_error", number(metric.standard_error)},
          {"unit", metric.unit},
          {"is_headline", metric.is_headline},
          {"is_lower_better", metric.is_lower_better},
          {"baselines", list_of(metric.baselines, baseline_json)}};
}

json series_json(const Series& series) {
  return {{"name", series.name},
          {"label", series.label},
          {"axis", series.axis},
          {"places", series.places},
          {"values", list_of(series.values, number)},
          {"unit", series.unit},
          {"baselines", list_of(series.baselines, baseline_json)}};
}

json table_json(const Table& table) {
  return {{"title", table.title}, {"columns", table.columns}, {"rows", table.rows}};
}

json picture_json(const Picture& picture) {
  return {{"name", picture.name}, {"path", picture.path}, {"legend", picture.legend}};
}

// The field of that name; null where `object` has none or is none.
const json& field(const json& object, const char* key) {
  static const json none;
  if (!object.is_object()) return none;
  const auto found = object.find(key);
  return found == object.end() ? none : *found;
}

double to_number(const json& value) { return value.is_number() ? value.get<double>() : kUnknown; }

std::string to_text(const json& value) {
  return value.is_string() ? value.get<std::string>() : std::string();
}

bool to_bool(const json& value) { return value.is_boolean() && value.get<bool>(); }

template <class Function>
auto items_of(const json& list, Function from_item) {
  std::vector<decltype(from_item(list))> items;
  if (!list.is_array()) return items;
  for (const json& item : list) items.push_back(from_item(item));
  return items;
}

Baseline to_baseline(const json& value) {
  return {to_text(field(value, "label")), to_number(field(value, "value"))};
}

Metric to_metric(const json& value) {
  return {to_text(field(value, "name")),
          to_text(field(value, "label")),
          to_number(field(value, "value")),
          to_number(field(value, "standard_error")),
          to_text(field(value, "unit")),
          to_bool(field(value, "is_headline")),
          items_of(field(value, "baselines"), to_baseline),
          to_bool(field(value, "is_lower_better"))};
}

Series to_series(const json& value) {
  Series series{to_text(field(value, "name")),
                to_text(field(value, "label")),
                to_text(field(value, "axis")),
                items_of(field(value, "places"), to_text),
                items_of(field(value, "values"), to_number),
                to_text(field(value, "unit")),
                items_of(field(value, "baselines"), to_baseline)};
  series.values.resize(series.places.size(), kUnknown);
  return series;
}

Table to_table(const json& value) {
  Table table{
      to_text(field(value, "title")), items_of(field(value, "columns"), to_text),
      items_of(field(value, "rows"), [](const json& row) { return items_of(row, to_text); })};
  for (auto& row : table.rows) row.resize(table.columns.size());
  return table;
}

Picture to_picture(const json& value) {
  return {to_text(field(value, "name")), to_text(field(value, "path")),
          to_text(field(value, "legend"))};
}

}  // namespace

const Baseline* best_baseline(const Metric& metric) {
  const Baseline* best = nullptr;
  for (const Baseline& baseline : metric.baselines) {
    if (!std::isfinite(baseline.value)) continue;
    const bool is_better =
        best == nullptr ||
        (metric.is_lower_better ? baseline.value < best->value : baseline.value > best->value);
    if (is_better) best = &baseline;
  }
  return best;
}

json to_json(const Section& section) {
  return {{"name", section.name},
          {"title", section.title},
          {"text", section.text},
          {"metrics", list_of(section.metrics, metric_json)},
          {"series", list_of(section.series, series_json)},
          {"tables", list_of(section.tables, table_json)},
          {"pictures", list_of(section.pictures, picture_json)}};
}

json to_json(const std::vector<Section>& sections) {
  return list_of(sections, [](const Section& section) { return to_json(section); });
}

Section section_from_json(const json& value) {
  return {to_text(field(value, "name")),
          to_text(field(value, "title")),
          to_text(field(value, "text")),
          items_of(field(value, "metrics"), to_metric),
          items_of(field(value, "series"), to_series),
          items_of(field(value, "tables"), to_table),
          items_of(field(value, "pictures"), to_picture)};
}

std::vector<Section> sections_from_json(const json& value) {
  return items_of(value, section_from_json);
}

std::vector<std::pair<std::string, double>> numbers_of(const Section& section) {
  std::vector<std::pair<std::string, double>> numbers;
  const auto add = [&numbers](const std::string& path, double value) {
    if (std::isfinite(value)) numbers.emplace_back(path, value);
  };
  for (const Metric& metric : section.metrics) add(metric.name, metric.value);
  for (const Series& series : section.series) {
    for (size_t i = 0; i < series.values.size(); ++i) {
      add(series.name + "/" + std::to_string(i + 1), series.values[i]);
    }
  }
  return numbers;
}

}  // namespace espalier
