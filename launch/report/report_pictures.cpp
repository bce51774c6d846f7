#include "launch/report/report_pictures.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <vector>

#include "launch/report/report_svg.h"

namespace espalier {
namespace {

constexpr size_t kEarlierShown = 4;  // of one picture; a page with every step would not open

std::string as_title(std::string name) {
  std::replace(name.begin(), name.end(), '-', ' ');
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

// Figures of one picture at several steps, the first and the last among them.
std::string over_time(const std::vector<const EarlierPicture*>& pictures) {
  std::string out;
  const size_t count = std::min(pictures.size(), kEarlierShown);
  for (size_t i = 0; i < count; ++i) {
    const size_t at = count > 1 ? i * (pictures.size() - 1) / (count - 1) : 0;
    const EarlierPicture& picture = *pictures[at];
    out += figure(picture.path, as_title(picture.name), "step " + std::to_string(picture.step));
  }
  return out;
}

}  // namespace

std::string base64(const std::string& bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) {
      group = group << 8 | (i + j < bytes.size() ? static_cast<uint8_t>(bytes[i + j]) : 0u);
    }
    for (size_t j = 0; j < 4; ++j) {
      out += i + j <= bytes.size() ? kDigits[group >> (18 - 6 * j) & 63] : '=';
    }
  }
  return out;
}

std::string figure(const std::string& path, const std::string& name, const std::string& caption) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.empty()) return "";
  return "<figure><img alt=\"" + escape_html(name) + "\" src=\"data:image/png;base64," +
         base64(bytes) + "\"><figcaption><b>" + escape_html(name) + "</b> " + escape_html(caption) +
         "</figcaption></figure>";
}

std::string pictures_of(const ReportData& data, const Section& section) {
  std::string out;
  for (const auto& picture : section.pictures) {
    out += figure(path_of(data, picture), as_title(picture.name), picture.legend);
  }
  return out;
}

std::string earlier_pictures_of(const ReportData& data, const ReportStage& stage) {
  std::string out;
  std::vector<const EarlierPicture*> same;  // sorted by name, then step
  for (const auto& picture : data.earlier_pictures) {
    if (picture.stage != stage.name) continue;
    if (!same.empty() && same.back()->name != picture.name) {
      out += over_time(same);
      same.clear();
    }
    same.push_back(&picture);
  }
  out += over_time(same);
  if (out.empty()) return "";
  return "<details><summary>pictures made while it trained</summary>" + out + "</details>";
}

}  // namespace espalier
