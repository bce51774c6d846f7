#include "data/sample_json.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "data/errors.h"

namespace espalier {
namespace {

using nlohmann::json;

bool is_text(const json& value) {
  return value.is_string() || value.is_number() || value.is_boolean();
}

std::string text_of(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::vector<std::string> texts_of(const json& value) {
  if (is_text(value)) return {text_of(value)};
  if (!value.is_array() || !std::all_of(value.begin(), value.end(), is_text)) return {};
  std::vector<std::string> texts;
  for (const json& item : value) texts.push_back(text_of(item));
  return texts;
}

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::string without_image_mark(std::string text) {
  constexpr std::string_view kMark = "<image>";
  for (size_t at = text.find(kMark); at != std::string::npos; at = text.find(kMark)) {
    text.erase(at, kMark.size());
  }
  return trimmed(text);
}

const json* member(const json& object, const char* name, const char* other_name) {
  if (!object.is_object()) return nullptr;
  auto found = object.find(name);
  if (found == object.end()) found = object.find(other_name);
  return found == object.end() ? nullptr : &*found;
}

std::string content_of(const json& content) {
  if (content.is_string()) return without_image_mark(content.get<std::string>());
  std::string text;
  for (const json& part : content) {
    if (!part.is_object() || part.value("type", "") != "text") continue;
    text += (text.empty() ? "" : " ") + without_image_mark(part.value("text", ""));
  }
  return text;
}

std::vector<Message> messages_of(const json& list, const std::string& name) {
  if (!list.is_array()) throw DataError(name + ": \"messages\" is not a list");
  std::vector<Message> messages;
  for (const json& item : list) {
    const json* role = member(item, "role", "from");
    const json* content = member(item, "content", "value");
    const std::string where = name + ": message " + std::to_string(messages.size() + 1);
    if (role == nullptr || !role->is_string()) throw DataError(where + " has no \"role\"");
    if (content == nullptr || !(content->is_string() || content->is_array())) {
      throw DataError(where + " has no \"content\", a text or a list of parts");
    }
    std::string who = role->get<std::string>();
    if (who == "human") who = "user";
    if (who == "gpt") who = "assistant";
    try {
      messages.push_back({who, content_of(*content)});
    } catch (const json::exception&) {
      throw DataError(where + ": a part of type \"text\" has no \"text\" that is a string");
    }
  }
  return messages;
}

}  // namespace

bool says_something(const Sample& sample, const std::string& field) {
  if (field == "messages") {
    return std::any_of(sample.messages.begin(), sample.messages.end(),
                       [](const Message& m) { return m.role == "assistant" && !m.text.empty(); });
  }
  return !sample.text(field).empty();
}

json parse_object(std::span<const uint8_t> bytes, const std::string& name) {
  json object;
  try {
    object = json::parse(bytes.begin(), bytes.end());
  } catch (const json::parse_error& error) {
    throw DataError(name + ": not JSON: " + error.what());
  }
  if (!object.is_object()) throw DataError(name + ": the JSON is not an object");
  return object;
}

std::string caption_of(const std::string& text) { return trimmed(text); }

Sample sample_of(const json& object, const std::string& name) {
  Sample sample;
  for (const auto& [key, value] : object.items()) {
    if (key == "messages" || key == "conversations") {
      sample.messages = messages_of(value, name);
      continue;
    }
    std::vector<std::string> texts = texts_of(value);
    if (!texts.empty()) sample.fields[key] = std::move(texts);
  }
  return sample;
}

void require_fields(const Sample& sample, const std::vector<std::string>& fields,
                    const std::string& name) {
  for (const std::string& field : fields) {
    if (says_something(sample, field)) continue;
    std::string there;
    for (const auto& [key, texts] : sample.fields) there += (there.empty() ? "" : ", ") + key;
    if (!sample.messages.empty()) there += (there.empty() ? "" : ", ") + std::string("messages");
    throw DataError(name + ": field \"" + field + "\" is missing or empty; there is " +
                    (there.empty() ? "none" : there));
  }
}

}  // namespace espalier
