#include "data/episodes/json_fields.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "data/errors.h"

namespace espalier {
namespace {

constexpr size_t kValueShown = 80;

// A long value is cut: the message is for a person.
std::string shown(const nlohmann::json& value) {
  if (value.is_object() || (value.is_array() && value.size() > 16)) {
    return (value.is_array() ? "a list of " : "an object of ") + std::to_string(value.size());
  }
  std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return text.size() > kValueShown ? text.substr(0, kValueShown) + "…" : text;
}

bool is_text(const nlohmann::json& value) {
  return value.is_string() && !value.get_ref<const std::string&>().empty();
}

bool is_integer_within(const nlohmann::json& value, int64_t min, int64_t max) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
    return false;
  return value.get<int64_t>() >= min && value.get<int64_t>() <= max;
}

bool is_float(const nlohmann::json& value) {
  return value.is_number() && std::isfinite(value.get<float>());
}

}  // namespace

JsonFields::JsonFields(const nlohmann::json& object, std::string file, std::string path)
    : object_(&object), file_(std::move(file)), path_(std::move(path)) {
  if (!object.is_object())
    throw DataError(file_ + ": " + (path_.empty() ? "it" : "field \"" + path_ + "\"") + " is " +
                    shown(object) + "; expected a JSON object");
}

std::string JsonFields::path_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
}

void JsonFields::fail(const char* key, const std::string& expected) const {
  const auto found = object_->find(key);
  throw DataError(file_ + ": field \"" + path_of(key) + "\" is " +
                  (found == object_->end() ? "missing" : shown(*found)) + "; expected " + expected);
}

const nlohmann::json& JsonFields::at(const char* key, const char* expected) const {
  const auto found = object_->find(key);
  if (found == object_->end()) fail(key, expected);
  return *found;
}

JsonFields JsonFields::object(const char* key) const {
  return {at(key, "a JSON object"), file_, path_of(key)};
}

std::vector<JsonFields> JsonFields::objects(const char* key) const {
  constexpr const char* kExpected = "a list of JSON objects";
  const nlohmann::json& list = at(key, kExpected);
  if (!list.is_array()) fail(key, kExpected);
  std::vector<JsonFields> fields;
  fields.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i)
    fields.emplace_back(list[i], file_, path_of(key) + "[" + std::to_string(i) + "]");
  return fields;
}

std::vector<std::string> JsonFields::keys() const {
  std::vector<std::string> keys;
  for (const auto& item : object_->items()) keys.push_back(item.key());
  return keys;
}

std::string JsonFields::text(const char* key) const {
  constexpr const char* kExpected = "a text that is not empty";
  const nlohmann::json& value = at(key, kExpected);
  if (!is_text(value)) fail(key, kExpected);
  return value.get<std::string>();
}

std::vector<std::string> JsonFields::texts(const char* key) const {
  constexpr const char* kExpected = "a list of texts that are not empty";
  const nlohmann::json& value = at(key, kExpected);
  if (!value.is_array() || !std::all_of(value.begin(), value.end(), is_text)) fail(key, kExpected);
  return value.get<std::vector<std::string>>();
}

std::vector<std::string> JsonFields::distinct_texts(const char* key) const {
  std::vector<std::string> list = texts(key);
  if (std::set(list.begin(), list.end()).size() != list.size()) fail(key, "each text only once");
  return list;
}

int64_t JsonFields::integer(const char* key, int64_t min, int64_t max) const {
  const auto found = object_->find(key);
  if (found == object_->end() || !is_integer_within(*found, min, max)) {
    fail(key, max == INT64_MAX
                  ? "an integer of at least " + std::to_string(min)
                  : "an integer of " + std::to_string(min) + " to " + std::to_string(max));
  }
  return found->get<int64_t>();
}

bool JsonFields::flag(const char* key) const {
  const nlohmann::json& value = at(key, "true or false");
  if (!value.is_boolean()) fail(key, "true or false");
  return value.get<bool>();
}

std::vector<float> JsonFields::numbers(const char* key, int64_t count) const {
  const std::string expected = "a list of " + std::to_string(count) + " finite numbers";
  const nlohmann::json& value = at(key, expected.c_str());
  if (!value.is_array() || std::ssize(value) != count ||
      !std::all_of(value.begin(), value.end(), is_float))
    fail(key, expected);
  return value.get<std::vector<float>>();
}

std::vector<int64_t> JsonFields::range(const char* key) const {
  constexpr const char* kExpected = "[first, last] with 0 <= first <= last";
  const nlohmann::json& value = at(key, kExpected);
  const auto is_count = [](const nlohmann::json& item) {
    return is_integer_within(item, 0, INT64_MAX);
  };
  if (!value.is_array() || value.size() != 2 ||
      !std::all_of(value.begin(), value.end(), is_count) ||
      value[0].get<int64_t>() > value[1].get<int64_t>())
    fail(key, kExpected);
  return value.get<std::vector<int64_t>>();
}

nlohmann::json parse_json_object(std::string_view text, const std::string& file) {
  nlohmann::json value;
  try {
    value = nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    throw DataError(file + ": not JSON: " + error.what());
  }
  if (!value.is_object()) throw DataError(file + ": the JSON is not an object");
  return value;
}

}  // namespace espalier
