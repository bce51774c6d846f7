#include "trainer/config/settings.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string_view>

#include <toml++/toml.h>

#include "data/text/utf8.h"
#include "trainer/config/toml_json.h"
#include "trainer/config/toml_text.h"
#include "trainer/errors.h"
#include "trainer/record/json_text.h"

namespace espalier {
namespace {

std::string number_text(double number) { return toml_value(nlohmann::json(number)); }

std::string bound_text(const Setting& setting, double bound) {
  const bool integral =
      setting.type == SettingType::kInteger || setting.type == SettingType::kIntegers;
  return integral ? std::to_string(static_cast<int64_t>(bound)) : number_text(bound);
}

bool has_type(const nlohmann::json& value, SettingType type) {
  switch (type) {
    case SettingType::kBoolean:
      return value.is_boolean();
    case SettingType::kInteger:
      return value.is_number_integer();
    case SettingType::kNumber:
      return value.is_number();
    case SettingType::kText:
      return value.is_string();
    default:
      break;
  }
  const SettingType item = type == SettingType::kTexts      ? SettingType::kText
                           : type == SettingType::kIntegers ? SettingType::kInteger
                                                            : SettingType::kNumber;
  return value.is_array() &&
         std::all_of(value.begin(), value.end(), [&](const auto& v) { return has_type(v, item); });
}

bool in_range(const nlohmann::json& value, const SettingSpec& spec) {
  if (value.is_array()) {
    return std::all_of(value.begin(), value.end(),
                       [&](const auto& v) { return in_range(v, spec); });
  }
  if (value.is_number()) {
    const double number = value.get<double>();
    return std::isfinite(number) && number >= spec.min && number <= spec.max;
  }
  if (value.is_string() && !spec.choices.empty()) {
    return std::count(spec.choices.begin(), spec.choices.end(), value.get<std::string>()) > 0;
  }
  return true;
}

// Part by part between the dots; "*" stands for any one part.
bool matches_parts(std::string_view pattern, std::string_view key) {
  while (true) {
    const size_t end = pattern.find('.'), key_end = key.find('.');
    const auto part = pattern.substr(0, end);
    if (part != "*" && part != key.substr(0, key_end)) return false;
    const bool is_last = end == std::string_view::npos;
    if (is_last || key_end == std::string_view::npos) {
      return is_last && key_end == std::string_view::npos;
    }
    pattern.remove_prefix(end + 1);
    key.remove_prefix(key_end + 1);
  }
}

constexpr size_t kShown = 120;  // bytes of a key or value in a message

std::string shortened(const std::string& text) {
  if (text.size() <= kShown) return text;
  size_t end = kShown;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // whole letters
  return text.substr(0, end) + "… (" + std::to_string(text.size()) + " bytes)";
}

// "--set a.b=c" has no line to point at; a file has.
std::string where(const std::string& origin, const std::string& key) {
  const bool is_argument = origin.empty() || origin == "--set";
  return (is_argument ? "--set " : origin + ": ") + shortened(key);
}

// TOML has UTF-8 alone, and no file name has a byte below a blank.
bool has_control_bytes(const nlohmann::json& value) {
  if (value.is_array()) return std::any_of(value.begin(), value.end(), has_control_bytes);
  if (!value.is_string()) return false;
  const auto& text = value.get_ref<const std::string&>();
  return replace_invalid_utf8(text) != text ||
         std::any_of(text.begin(), text.end(), [](unsigned char c) {
           return c == 0x7f || (c < 0x20 && c != '\n' && c != '\t');
         });
}

}  // namespace

std::string type_name(SettingType type) {
  switch (type) {
    case SettingType::kBoolean:
      return "true or false";
    case SettingType::kInteger:
      return "integer";
    case SettingType::kNumber:
      return "number";
    case SettingType::kText:
      return "text";
    case SettingType::kTexts:
      return "list of texts";
    case SettingType::kIntegers:
      return "list of integers";
    case SettingType::kNumbers:
      return "list of numbers";
  }
  return "";
}

std::string range_text(const Setting& setting) {
  const SettingSpec& spec = setting.spec;
  if (!spec.choices.empty()) {
    std::string text = "one of ";
    for (size_t i = 0; i < spec.choices.size(); ++i) text += (i ? ", " : "") + spec.choices[i];
    return text;
  }
  const bool has_min = std::isfinite(spec.min);
  const bool has_max = std::isfinite(spec.max);
  if (has_min && has_max) {
    return bound_text(setting, spec.min) + " to " + bound_text(setting, spec.max);
  }
  if (has_min) return "at least " + bound_text(setting, spec.min);
  if (has_max) return "at most " + bound_text(setting, spec.max);
  return "";
}

// JSON's texts, numbers, booleans and arrays are valid TOML as they are; only TOML has nan and inf.
std::string toml_value(const nlohmann::json& value) {
  if (value.is_array()) {
    std::string text = "[";
    for (const auto& item : value) text += (text.size() > 1 ? "," : "") + toml_value(item);
    return text + "]";
  }
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    const double number = value.get<double>();
    return std::isnan(number) ? "nan" : number > 0 ? "inf" : "-inf";
  }
  return json_text(value);
}

std::string shown_value(const nlohmann::json& value) { return shortened(toml_value(value)); }

std::string explain_setting(const Setting& setting) {
  std::ostringstream text;
  text << setting.key << " = " << toml_value(setting.value);
  if (!setting.spec.unit.empty()) text << "  (" << setting.spec.unit << ")";
  text << "\n  " << setting.spec.help << "\n  " << type_name(setting.type);
  const std::string range = range_text(setting);
  if (!range.empty()) text << ", " << range;
  text << "; default " << toml_value(setting.default_value);
  if (setting.origin != "default") text << "; set by " << setting.origin;
  return text.str() + "\n";
}

const Setting* Settings::find(const std::string& key) const {
  const auto found = std::find_if(settings_.begin(), settings_.end(),
                                  [&](const Setting& setting) { return setting.key == key; });
  return found == settings_.end() ? nullptr : &*found;
}

void Settings::set(const std::string& key, const nlohmann::json& given, const std::string& origin) {
  auto* setting = const_cast<Setting*>(find(key));
  if (setting == nullptr) {
    const std::string nearest = nearest_key(key);
    throw ConfigError(where(origin, key) + ": there is no such setting" +
                      (nearest.empty() ? "; `espalier config explain` lists them all"
                                       : "; did you mean " + nearest + "?"));
  }
  // One text where a list of one is meant.
  const bool is_single = setting->type == SettingType::kTexts && given.is_string();
  const nlohmann::json value = is_single ? nlohmann::json::array({given}) : given;
  if (!has_type(value, setting->type)) {
    throw ConfigError(where(origin, key) + " must be " + type_name(setting->type) + ", got " +
                      shown_value(value));
  }
  if (has_control_bytes(value)) {
    throw ConfigError(where(origin, key) + " = " + shown_value(value) +
                      " has a byte that no text has (\\u0000, or none of UTF-8); write it without");
  }
  if (!in_range(value, setting->spec)) {
    throw ConfigError(where(origin, key) + " = " + shown_value(value) +
                      " is out of range: " + range_text(*setting) +
                      (setting->spec.unit.empty() ? "" : " (" + setting->spec.unit + ")"));
  }
  setting->assign(value);
  setting->value = value;
  setting->origin = origin;
}

std::vector<std::string> Settings::matching(const std::string& pattern) const {
  std::vector<std::string> keys;
  for (const Setting& setting : settings_) {
    if (matches_parts(pattern, setting.key)) keys.push_back(setting.key);
  }
  return keys;
}

void Settings::set_from_argument(const std::string& argument) {
  const size_t equals = argument.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw ConfigError("--set " + shortened(argument) + ": expected key=value, e.g. --set seed=7");
  }
  const std::string key = argument.substr(0, equals);
  const std::string text = argument.substr(equals + 1);
  nlohmann::json parsed = text;
  try {
    const std::string line = "value = " + text;
    refuse_deep_keys(line, "--set " + shortened(key));
    const toml::table table = toml::parse(line);
    if (table.size() == 1) parsed = json_from_toml(*table.get("value"));
  } catch (const toml::parse_error&) {
    // Not a TOML value: bare text, as in --set run.directory=runs/a
  }
  std::vector<std::string> keys = matching(key);
  if (keys.empty()) keys = {key};
  for (const std::string& each : keys) {
    const Setting* setting = find(each);
    // --set run.directory=2026 is text all the same
    const bool is_text = setting != nullptr && setting->type == SettingType::kText;
    set(each, is_text && !parsed.is_string() ? nlohmann::json(text) : parsed, "--set");
  }
}

}  // namespace espalier
