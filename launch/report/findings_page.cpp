#include "launch/report/findings_page.h"

#include <algorithm>

#include "data/text/utf8.h"
#include "launch/report/finding_chart.h"
#include "launch/report/report_style.h"
#include "launch/report/report_svg.h"
#include "launch/runs/text_table.h"

namespace espalier {
namespace {

constexpr int kColumns = 100;  // of a paragraph in the terminal

std::string table_of(const Table& table) {
  if (table.rows.empty()) return "";
  std::string out = table.title.empty() ? "" : "<h4>" + escape_html(table.title) + "</h4>";
  out += "<div class=\"scroll\"><table><tr>";
  for (const auto& column : table.columns) out += "<th>" + escape_html(column) + "</th>";
  out += "</tr>";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (const auto& text : row) out += "<td>" + escape_html(text) + "</td>";
    out += "</tr>";
  }
  return out + "</table></div>";
}

std::string wrapped(const std::string& paragraph) {
  std::string out, line;
  size_t begin = 0;
  while (begin < paragraph.size()) {
    const size_t end = std::min(paragraph.find(' ', begin), paragraph.size());
    const std::string word = paragraph.substr(begin, end - begin);
    const std::string longer = line.empty() ? word : line + " " + word;
    if (!line.empty() && count_code_points(longer) > kColumns) {
      out += line + "\n";
      line = word;
    } else {
      line = longer;
    }
    begin = end + 1;
  }
  return out + line + "\n";
}

std::string finding_html(const Finding& finding) {
  std::string out = "<h2>" + escape_html(finding.title) + "</h2>";
  for (const auto& paragraph : finding.paragraphs) out += "<p>" + escape_html(paragraph) + "</p>";
  for (const auto& table : finding.tables) out += table_of(table);
  std::string charts;
  for (const auto& plot : finding.plots) {
    const std::string chart = finding_chart(plot);
    if (!chart.empty()) charts += "<div class=\"panel\">" + chart + "</div>";
  }
  return charts.empty() ? out : out + "<div class=\"grid wide\">" + charts + "</div>";
}

}  // namespace

std::string findings_page(const std::string& title, const std::vector<Finding>& findings) {
  std::string page =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name="
      "\"viewport\" content=\"width=device-width, initial-scale=1\"><title>" +
      escape_html(title) + "</title><style>" + report_style() + "</style></head><body><main><h1>" +
      escape_html(title) + "</h1>";
  for (const Finding& finding : findings) page += finding_html(finding);
  return page + "</main></body></html>\n";
}

std::string findings_text(const std::vector<Finding>& findings) {
  std::string out;
  for (const Finding& finding : findings) {
    out += (out.empty() ? "" : "\n") + finding.title + "\n";
    for (const auto& paragraph : finding.paragraphs) out += "\n" + wrapped(paragraph);
    for (const auto& table : finding.tables) {
      if (table.rows.empty()) continue;
      out += "\n" + (table.title.empty() ? "" : table.title + "\n");
      std::vector<std::vector<std::string>> rows = {table.columns};
      rows.insert(rows.end(), table.rows.begin(), table.rows.end());
      out += text_table(rows);
    }
  }
  return out;
}

}  // namespace espalier
