#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include <nlohmann/json.hpp>

namespace espalier {

// What a setting is for, and what it may be. Everything the user meets about a setting (checks,
// messages, `config explain`, the reference page, the resolved file) is made from this.
struct SettingSpec {
  std::string help;
  std::string unit = {};
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices = {};
  // What people call it elsewhere: answered with this setting, not taken for it.
  std::vector<std::string> also = {};
};

enum class SettingType { kBoolean, kInteger, kNumber, kText, kTexts, kIntegers, kNumbers };

struct Setting {
  std::string key;  // "stage.tokenizer.optimizer.learning_rate"
  SettingType type;
  SettingSpec spec;
  nlohmann::json default_value;
  nlohmann::json value;
  std::string origin = "default";  // or "file:line", or "--set"
  std::function<void(const nlohmann::json&)> assign;
};

template <class T>
constexpr SettingType setting_type() {
  if constexpr (std::is_same_v<T, bool>) {
    return SettingType::kBoolean;
  } else if constexpr (std::is_integral_v<T>) {
    return SettingType::kInteger;
  } else if constexpr (std::is_floating_point_v<T>) {
    return SettingType::kNumber;
  } else if constexpr (std::is_same_v<T, std::string>) {
    return SettingType::kText;
  } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
    return SettingType::kTexts;
  } else if constexpr (std::is_integral_v<typename T::value_type>) {
    return SettingType::kIntegers;
  } else {
    return SettingType::kNumbers;
  }
}

// The declared settings of one config, bound to the fields that hold their values. The fields must
// outlive it. Every method that meets a wrong key or value throws ConfigError.
class Settings {
 public:
  // Declares a setting; its default is what `field` holds now.
  template <class T>
  void add(const std::string& key, T& field, SettingSpec spec) {
    settings_.push_back({key, setting_type<T>(), std::move(spec), field, field, "default",
                         [&field](const nlohmann::json& value) { field = value.get<T>(); }});
  }

  // Type and range are checked; an unknown key is answered with the nearest declared one.
  // `origin` is where the value was written.
  void set(const std::string& key, const nlohmann::json& value, const std::string& origin);

  // "a.b=c" as given to --set: c is a TOML value, or bare text for a text setting. A part that is
  // only "*" stands for any name: "stage.*.x=c" sets x of every stage.
  void set_from_argument(const std::string& argument);

  const Setting* find(const std::string& key) const;
  // Keys that equal the pattern part by part, "*" standing for any part.
  std::vector<std::string> matching(const std::string& pattern) const;
  // What was meant by a key that is not declared: by its last part, as other programs call it or as
  // it is called here in another table ("lr", "steps"; several are one pattern: stage.*.steps),
  // else by its letters. "" when nothing is near.
  std::string nearest_key(const std::string& key) const;
  const std::vector<Setting>& all() const { return settings_; }

 private:
  std::vector<Setting> settings_;
};

// Settings under one prefix: what an owner declares without knowing where it stands in the file.
class SettingsScope {
 public:
  SettingsScope(Settings& settings, std::string prefix)
      : settings_(settings), prefix_(std::move(prefix)) {}

  template <class T>
  void add(const std::string& name, T& field, SettingSpec spec) {
    settings_.add(prefix_ + name, field, std::move(spec));
  }
  SettingsScope below(const std::string& name) const { return {settings_, prefix_ + name + "."}; }

 private:
  Settings& settings_;
  std::string prefix_;
};

std::string type_name(SettingType type);         // "integer"
std::string range_text(const Setting& setting);  // "0 to 1", "one of cpu, cuda", "" = any
std::string toml_value(const nlohmann::json& value);
std::string shown_value(const nlohmann::json& value);  // for messages: cut when it is long
std::string explain_setting(const Setting& setting);   // a few lines for the terminal

}  // namespace espalier
