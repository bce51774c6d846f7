#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "data/images/image.h"

namespace espalier {

// A piece of what somebody says: a text, or one of the sample's pictures.
struct MessagePart {
  std::string text = {};
  int64_t picture = -1;  // its number; -1: a text
  bool is_picture() const { return picture >= 0; }
};

// One turn of a conversation.
struct Message {
  std::string role;  // "user", "assistant", "system"
  std::vector<MessagePart> parts;

  bool is_assistant() const { return role == "assistant"; }
  std::string text() const;  // of all parts, without pictures
};

// Pictures and what is written about them, whatever form they were stored in. Most have one.
struct Sample {
  std::string key;
  int64_t pictures = 1;
  Image image;                 // the first of them; empty from describe()
  std::vector<Image> further;  // the others, likewise
  // Texts by the name of their field ("caption", "keywords"): one, or any number.
  std::map<std::string, std::vector<std::string>> fields;
  std::vector<Message> messages;  // of a conversation

  // Empty where the sample has no such field.
  const std::vector<std::string>& texts(const std::string& field) const;
  const std::string& text(const std::string& field) const;  // the first of them
  const std::string& caption() const { return text("caption"); }
};

}  // namespace espalier
