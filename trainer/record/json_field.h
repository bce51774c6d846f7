#pragma once

#include <map>
#include <string>
#include <type_traits>

#include <nlohmann/json.hpp>

namespace espalier {

// Sets `value` to the field of an object that comes from elsewhere: a peer, an older run. A missing
// or mistyped field leaves it as it is.
template <class T>
void read_field(const nlohmann::json& object, const char* name, T* value) {
  if (!object.is_object()) return;
  const auto field = object.find(name);
  if (field == object.end()) return;
  if constexpr (std::is_same_v<T, std::string>) {
    if (field->is_string()) *value = field->template get<std::string>();
  } else if constexpr (std::is_same_v<T, bool>) {
    if (field->is_boolean()) *value = field->template get<bool>();
  } else {
    static_assert(std::is_arithmetic_v<T>);
    if (field->is_number()) *value = field->template get<T>();
  }
}

// Of a map, those entries that are numbers.
inline void read_field(const nlohmann::json& object, const char* name,
                       std::map<std::string, double>* value) {
  if (!object.is_object()) return;
  const auto field = object.find(name);
  if (field == object.end() || !field->is_object()) return;
  for (const auto& [key, number] : field->items()) {
    if (number.is_number()) (*value)[key] = number.get<double>();
  }
}

}  // namespace espalier
