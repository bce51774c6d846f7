#include "trainer/interference/parameter_place.h"

#include <algorithm>
#include <cctype>
#include <vector>

namespace espalier {
namespace {

std::vector<std::string> parts_of(const std::string& name) {
  std::vector<std::string> parts(1);
  for (const char c : name) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

bool is_number(const std::string& part) {
  constexpr size_t kMostDigits = 9;
  return !part.empty() && part.size() <= kMostDigits &&
         std::all_of(part.begin(), part.end(),
                     [](unsigned char c) { return std::isdigit(c) != 0; });
}

std::string joined(const std::vector<std::string>& parts, size_t begin, size_t end) {
  std::string text;
  for (size_t i = begin; i < end; ++i) text += (i == begin ? "" : ".") + parts[i];
  return text;
}

}  // namespace

ParameterPlace place_of(const std::string& name) {
  std::vector<std::string> parts = parts_of(name.substr(name.rfind('/') + 1));
  if (parts.size() > 1 && (parts.back() == "weight" || parts.back() == "bias")) parts.pop_back();
  for (size_t i = 1; i < parts.size(); ++i) {
    if (!is_number(parts[i])) continue;
    return {joined(parts, 0, i), std::stoll(parts[i]), joined(parts, i + 1, parts.size())};
  }
  return {joined(parts, 0, parts.size()), -1, ""};
}

std::string text_of(const ParameterPlace& place) {
  std::string text = place.stack;
  if (place.layer >= 0) text += "." + std::to_string(place.layer);
  if (!place.projection.empty()) text += "." + place.projection;
  return text;
}

}  // namespace espalier
