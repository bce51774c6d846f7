#include "launch/report/report_sections.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string_view>

#include "launch/report/report_chart.h"
#include "launch/report/report_values.h"

namespace espalier {
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr size_t kIntermediatePicturesShown = 8;
constexpr size_t kExamplesShown = 24;
constexpr std::string_view kByStage = "_by_stage";

// "drawn_seen": names of the drawings, in the order of the sheet.
std::string names_on_sheet(const ReportData& data, const std::string& key) {
  const json& generation = section_of(data, "generation");
  std::string out;
  if (!generation.contains(key) || !generation[key].is_array()) return out;
  for (const auto& name : generation[key]) out += (out.empty() ? "" : ", ") + text_of(name);
  return out;
}

std::string caption_of(const ReportData& data, const ReportPicture& image) {
  const std::string name = fs::path(image.path).stem().string();
  if (name.ends_with("-reconstructions")) {
    return "First row: test images. Below: what comes back from 1, 2, … stages of codes.";
  }
  for (const char* kind : {"seen", "unseen"}) {
    if (!name.ends_with(std::string("-drawn-") + kind)) continue;
    return "Names " + std::string(kind) +
           " in training. In threes: the real image, the same through the tokenizer, and what was "
           "drawn from its name. " +
           (image.is_final ? names_on_sheet(data, std::string("drawn_") + kind) : "");
  }
  return "";
}

std::string picture(const ReportData& data, const ReportPicture& image) {
  std::ifstream file(image.path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  const std::string name = escape_html(fs::path(image.path).stem().string());
  const std::string caption = caption_of(data, image);
  return "<figure><img alt=\"" + name + "\" src=\"data:image/png;base64," + base64(bytes) +
         "\"><figcaption><b>" + name + "</b> " + caption + "</figcaption></figure>";
}

// Arrays that hold one value for each number of residual stages, side by side.
std::string table_by_stage(const json& object) {
  size_t columns = 0;
  std::vector<std::pair<std::string, std::vector<double>>> rows;
  for (const auto& [key, value] : object.items()) {
    const auto at = key.find(kByStage);
    if (at == std::string::npos) continue;
    rows.emplace_back(std::string(key).erase(at, kByStage.size()), numbers_of(object, key));
    columns = std::max(columns, rows.back().second.size());
  }
  if (rows.empty()) return "";
  std::string out = "<div class=\"scroll\"><table><tr><th>stages of codes used</th>";
  for (size_t i = 1; i <= columns; ++i) out += "<th class=\"n\">" + std::to_string(i) + "</th>";
  out += "</tr>";
  for (const auto& [name, values] : rows) {
    out += "<tr><td>" + spaced(name) + "</td>";
    for (size_t i = 0; i < columns; ++i) {
      out += "<td class=\"n\">" + (i < values.size() ? short_number(values[i]) : "") + "</td>";
    }
    out += "</tr>";
  }
  return out + "</table></div>";
}

std::string table_of_examples(const json& list) {
  // What is true beside what the model says; JSON has no order of its own.
  std::vector<std::string> columns;
  for (const char* key : {"caption", "written", "group", "answered"}) {
    if (list[0].contains(key)) columns.push_back(key);
  }
  for (const auto& row : list) {
    for (const auto& [key, value] : row.items()) {
      if (std::find(columns.begin(), columns.end(), key) == columns.end()) columns.push_back(key);
    }
  }
  std::string out = "<div class=\"scroll\"><table><tr>";
  for (const auto& column : columns) out += "<th>" + spaced(column) + "</th>";
  out += "</tr>";
  for (size_t i = 0; i < std::min(list.size(), kExamplesShown); ++i) {
    out += "<tr>";
    for (const auto& column : columns) {
      out += "<td>" + (list[i].contains(column) ? text_of(list[i][column]) : "") + "</td>";
    }
    out += "</tr>";
  }
  return out + "</table></div>";
}

// Whatever else an evaluation found: single values in a table, lists of objects as tables.
std::string generic(const json& object, const std::set<std::string>& shown) {
  std::string rows;
  std::string tables;
  for (const auto& [key, value] : object.items()) {
    if (shown.contains(key) || key.find(kByStage) != std::string::npos) continue;
    const bool is_list = value.is_array() && !value.empty();
    if (is_list && std::all_of(value.begin(), value.end(), [](auto& v) { return v.is_object(); })) {
      tables += "<h3>" + spaced(key) + "</h3>" + table_of_examples(value);
    } else if (is_list || value.is_object()) {
      tables += "<details><summary>" + spaced(key) + "</summary><pre>" +
                escape_html(value.dump(1)) + "</pre></details>";
    } else {
      rows += "<tr><td>" + spaced(key) + "</td><td class=\"n\">" + text_of(value) + "</td></tr>";
    }
  }
  if (!rows.empty()) rows = "<table>" + rows + "</table>";
  return rows + tables;
}

std::vector<Bar> bars_of(const std::vector<double>& values) {
  std::vector<Bar> bars;
  for (size_t i = 0; i < values.size(); ++i) bars.push_back({std::to_string(i + 1), values[i]});
  return bars;
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

std::string pictures_of(const ReportData& data, const std::string& stage) {
  if (stage.empty()) return "";
  std::string out;
  std::vector<const ReportPicture*> earlier;
  for (const auto& image : data.pictures) {
    if (image.stage != stage) continue;
    if (image.is_final) {
      out += picture(data, image);
    } else {
      earlier.push_back(&image);
    }
  }
  if (earlier.empty()) return out;
  const size_t first = earlier.size() - std::min(earlier.size(), kIntermediatePicturesShown);
  std::string shown;
  for (size_t i = first; i < earlier.size(); ++i) shown += picture(data, *earlier[i]);
  if (out.empty()) return shown;
  return out + "<details><summary>while it trained</summary>" + shown + "</details>";
}

std::string tokenizer_section(const ReportData& data) {
  const json& tokenizer = section_of(data, "tokenizer");
  if (tokenizer.empty()) return "";
  const auto psnr = numbers_of(tokenizer, "psnr_db_by_stage");
  std::string out =
      "<h2>Tokenizer</h2><p>An image becomes codes from a cascade of residual quantizer stages. "
      "The first stages are decoded to pixels; all of them together toward the features of a "
      "frozen teacher. Values are of the held-out test split.</p><div class=\"grid wide\">";
  out += panel(bar_chart("PSNR by stages used (dB)", bars_of(psnr),
                         number_of(tokenizer, "psnr_db_mean_image"), "mean image"));
  out += panel(bar_chart("Teacher cosine by stages used",
                         bars_of(numbers_of(tokenizer, "semantic_cosine_by_stage")), std::nan(""),
                         ""));
  out += panel(bar_chart(
      "Group accuracy, nearest neighbours", bars_of(numbers_of(tokenizer, "group_knn_by_stage")),
      number_of(section_of(data, "understanding"), "group_accuracy_pixels"), "raw pixels"));
  out += panel(bar_chart("Codes in use, by stage",
                         bars_of(numbers_of(tokenizer, "code_usage_by_stage")), std::nan(""), ""));
  return out + "</div>" + table_by_stage(tokenizer) + generic(tokenizer, {});
}

std::string understanding_section(const ReportData& data) {
  const json& understanding = section_of(data, "understanding");
  if (understanding.empty()) return "";
  struct Row {
    const char* key;
    const char* label;
    bool is_ours = false;
  };
  constexpr Row kRows[] = {{"group_accuracy_majority", "always the most common group"},
                           {"group_accuracy_pixels", "nearest neighbour on raw pixels"},
                           {"group_accuracy_teacher", "nearest neighbour on teacher features"},
                           {"group_accuracy", "this model", true}};
  std::string out =
      "<h2>Understanding</h2><p>The understanding branch answers from the image's codes. Held-out "
      "images, beside what simpler means reach.</p><table><tr><th>which of the groups?</th>"
      "<th class=\"n\">accuracy</th></tr>";
  std::set<std::string> shown;
  for (const auto& row : kRows) {
    shown.insert(row.key);
    double value = number_of(understanding, row.key);
    if (row.key == std::string("group_accuracy_teacher") && !std::isfinite(value)) {
      value = number_of(section_of(data, "tokenizer"), "group_knn_teacher");
    }
    if (!std::isfinite(value)) continue;
    out += std::string(row.is_ours ? "<tr class=\"ours\">" : "<tr>") + "<td>" + row.label +
           "</td><td class=\"n\">" + short_number(value) + "</td></tr>";
  }
  return out + "</table>" + generic(understanding, shown);
}

std::string generation_section(const ReportData& data) {
  const json& generation = section_of(data, "generation");
  if (generation.empty()) return "";
  return "<h2>Generation</h2><p>The generation branch draws codes from a name; the tokenizer turns "
         "them into pixels.</p>" +
         table_by_stage(generation) +
         generic(generation, {"drawn_seen", "drawn_unseen", "drawn_columns"});
}

}  // namespace espalier
