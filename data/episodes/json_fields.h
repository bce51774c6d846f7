#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace espalier {

// The fields of one JSON object, each read with what it must be. Every function throws DataError
// "FILE: field "image.height" is 0; expected an integer of 1 to 4096" when it is missing or not
// that. Refers to the JSON, which has to outlive it.
class JsonFields {
 public:
  // `path` of the object inside the file: "" at the top, else "image", "shards[3]".
  JsonFields(const nlohmann::json& object, std::string file, std::string path = "");

  JsonFields object(const char* key) const;
  std::vector<JsonFields> objects(const char* key) const;  // of a list
  std::vector<std::string> keys() const;                   // sorted
  std::string path_of(std::string_view key) const;

  std::string text(const char* key) const;  // not empty
  std::vector<std::string> texts(const char* key) const;
  std::vector<std::string> distinct_texts(const char* key) const;
  int64_t integer(const char* key, int64_t min, int64_t max) const;
  bool flag(const char* key) const;
  std::vector<float> numbers(const char* key, int64_t count) const;  // finite
  std::vector<int64_t> range(const char* key) const;  // [first, last], 0 <= first <= last

  // For what the caller finds wrong itself: 'is VALUE; expected EXPECTED'.
  [[noreturn]] void fail(const char* key, const std::string& expected) const;

 private:
  const nlohmann::json& at(const char* key, const char* expected) const;

  const nlohmann::json* object_;
  std::string file_;
  std::string path_;
};

// Parses the text of `file`. Throws DataError when it is not JSON or not an object.
nlohmann::json parse_json_object(std::string_view text, const std::string& file);

}  // namespace espalier
