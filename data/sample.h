#pragma once

#include <map>
#include <string>
#include <vector>

#include "data/images/image.h"

namespace espalier {

// One turn of a conversation.
struct Message {
  std::string role;  // "user", "assistant", "system"
  std::string text;  // where the picture stands among the words is not kept: it comes first
};

// One picture and what is written about it, whatever form it was stored in.
struct Sample {
  std::string key;
  Image image;  // empty from describe()
  // Texts by the name of their field ("caption", "keywords"): one, or any number.
  std::map<std::string, std::vector<std::string>> fields;
  std::vector<Message> messages;  // of a conversation

  // Empty where the sample has no such field.
  const std::vector<std::string>& texts(const std::string& field) const;
  const std::string& text(const std::string& field) const;  // the first of them
  const std::string& caption() const { return text("caption"); }
};

}  // namespace espalier
