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

const json* member(const json& object, const char* name, const char* other_name) {
  if (!object.is_object()) return nullptr;
  auto found = object.find(name);
  if (found == object.end()) found = object.find(other_name);
  return found == object.end() ? nullptr : &*found;
}

// What the parts of messages call a picture, or where it comes among them: 0 is the first.
std::string name_of_picture(const json& part) {
  for (const char* key : {"image", "image_url", "path"}) {
    const auto found = part.find(key);
    if (found == part.end()) continue;
    if (found->is_string()) return found->get<std::string>();
    if (found->is_object()) return found->value("url", found->value("path", ""));
  }
  return "";
}

bool is_picture_part(const json& part) {
  if (!part.is_object()) return false;
  const auto type = part.find("type");
  return type != part.end() && (*type == "image" || *type == "image_url");
}

// Reads the messages of one sample, counting its pictures.
class MessageReader {
 public:
  MessageReader(const std::vector<std::string>& pictures, const std::string& name)
      : pictures_(pictures), name_(name), is_shown_(pictures.size(), false) {}

  std::vector<Message> read(const json& list) {
    if (!list.is_array()) throw DataError(name_ + ": \"messages\" is not a list");
    std::vector<Message> messages;
    for (const json& item : list) {
      where_ = name_ + ": message " + std::to_string(messages.size() + 1);
      const json* role = member(item, "role", "from");
      const json* content = member(item, "content", "value");
      if (role == nullptr || !role->is_string()) throw DataError(where_ + " has no \"role\"");
      if (content == nullptr || !(content->is_string() || content->is_array())) {
        throw DataError(where_ + " has no \"content\", a text or a list of parts");
      }
      messages.push_back({role->get<std::string>(), {}});
      if (messages.back().role == "human") messages.back().role = "user";
      if (messages.back().role == "gpt") messages.back().role = "assistant";
      add_content(*content, messages.back().parts);
    }
    show_all(messages);
    return messages;
  }

 private:
  void add_content(const json& content, std::vector<MessagePart>& parts) {
    if (content.is_string()) return add_text(content.get<std::string>(), parts);
    for (const json& part : content) {
      if (is_picture_part(part)) {
        add_picture(part, parts);
      } else if (part.is_object() && part.contains("type") && part["type"] == "text") {
        if (!part.contains("text") || !part["text"].is_string()) {
          throw DataError(where_ + ": a part of type \"text\" has no \"text\" that is a string");
        }
        add_text(part["text"].get<std::string>(), parts);
      }
    }
  }

  // Texts between marks of pictures, without the blanks around them. Texts in a row become one.
  void add_text(const std::string& text, std::vector<MessagePart>& parts) {
    constexpr std::string_view kMark = "<image>";
    size_t begin = 0;
    for (size_t at = text.find(kMark);; at = text.find(kMark, begin)) {
      const std::string said = trimmed(text.substr(begin, at == text.npos ? at : at - begin));
      if (!said.empty() && !parts.empty() && !parts.back().is_picture()) {
        parts.back().text += " " + said;
      } else if (!said.empty()) {
        parts.push_back({.text = said});
      }
      if (at == std::string::npos) return;
      show(marked_++, parts);
      begin = at + kMark.size();
    }
  }

  void add_picture(const json& part, std::vector<MessagePart>& parts) {
    if (part.contains("index") && part["index"].is_number_integer()) {
      return show(part["index"].get<int64_t>(), parts);
    }
    const std::string called = name_of_picture(part);
    if (called.empty()) return show(marked_++, parts);
    const auto found = std::find(pictures_.begin(), pictures_.end(), called);
    if (found != pictures_.end()) return show(found - pictures_.begin(), parts);
    std::string there;
    for (const std::string& each : pictures_) there += (there.empty() ? "" : ", ") + each;
    throw DataError(where_ + " shows the picture " + called + "; the sample has " + there);
  }

  void show(int64_t picture, std::vector<MessagePart>& parts) {
    if (picture < 0 || picture >= std::ssize(is_shown_)) {
      throw DataError(where_ + " shows picture " + std::to_string(picture + 1) +
                      "; the sample has " + std::to_string(is_shown_.size()));
    }
    is_shown_[static_cast<size_t>(picture)] = true;
    parts.push_back({.picture = picture});
  }

  // Where nobody says when they are shown, pictures come before everything.
  void show_all(std::vector<Message>& messages) {
    const auto shown = std::count(is_shown_.begin(), is_shown_.end(), true);
    if (shown == std::ssize(is_shown_) || messages.empty()) return;
    if (shown > 0) {
      throw DataError(name_ + ": messages show " + std::to_string(shown) + " of the sample's " +
                      std::to_string(is_shown_.size()) + " pictures; show all or none");
    }
    std::vector<MessagePart> first;
    for (int64_t i = 0; i < std::ssize(is_shown_); ++i) first.push_back({.picture = i});
    if (messages.front().is_assistant()) messages.insert(messages.begin(), {"user", {}});
    std::vector<MessagePart>& parts = messages.front().parts;
    parts.insert(parts.begin(), first.begin(), first.end());
  }

  const std::vector<std::string>& pictures_;
  const std::string& name_;
  std::string where_;
  std::vector<bool> is_shown_;
  int64_t marked_ = 0;
};

bool has_assistant_part(const Sample& sample, bool is_picture) {
  return std::any_of(sample.messages.begin(), sample.messages.end(), [&](const Message& m) {
    return m.is_assistant() && std::any_of(m.parts.begin(), m.parts.end(), [&](const auto& part) {
             return part.is_picture() == is_picture;
           });
  });
}

}  // namespace

bool says_something(const Sample& sample, const std::string& field) {
  if (field == "messages") return has_assistant_part(sample, /*is_picture=*/false);
  if (field == "messages.picture") return has_assistant_part(sample, /*is_picture=*/true);
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

std::vector<std::string> pictures_named(const json& object) {
  std::vector<std::string> names;
  const json* messages = member(object, "messages", "conversations");
  if (messages == nullptr || !messages->is_array()) return names;
  for (const json& message : *messages) {
    const json* content = member(message, "content", "value");
    if (content == nullptr || !content->is_array()) continue;
    for (const json& part : *content) {
      const std::string name = is_picture_part(part) ? name_of_picture(part) : "";
      if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end()) {
        names.push_back(name);
      }
    }
  }
  return names;
}

json messages_json(const std::vector<Message>& messages) {
  json list = json::array();
  for (const Message& message : messages) {
    json parts = json::array();
    for (const MessagePart& part : message.parts) {
      parts.push_back(part.is_picture() ? json{{"type", "image"}, {"index", part.picture}}
                                        : json{{"type", "text"}, {"text", part.text}});
    }
    list.push_back({{"role", message.role}, {"content", std::move(parts)}});
  }
  return list;
}

Sample sample_of(const json& object, const std::string& name,
                 const std::vector<std::string>& pictures) {
  Sample sample;
  sample.pictures = std::ssize(pictures);
  for (const auto& [key, value] : object.items()) {
    if (key == "messages" || key == "conversations") {
      sample.messages = MessageReader(pictures, name).read(value);
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
