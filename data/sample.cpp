#include "data/sample.h"

namespace espalier {

std::string Message::text() const {
  std::string all;
  for (const MessagePart& part : parts) {
    if (!part.is_picture()) all += (all.empty() ? "" : " ") + part.text;
  }
  return all;
}

const std::vector<std::string>& Sample::texts(const std::string& field) const {
  static const std::vector<std::string> none;
  const auto found = fields.find(field);
  return found == fields.end() ? none : found->second;
}

const std::string& Sample::text(const std::string& field) const {
  static const std::string none;
  const std::vector<std::string>& all = texts(field);
  return all.empty() ? none : all.front();
}

}  // namespace espalier
