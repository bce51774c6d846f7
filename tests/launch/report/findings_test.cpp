#include <limits>

#include <gtest/gtest.h>

#include "launch/report/finding_chart.h"
#include "launch/report/findings_page.h"

namespace espalier {
namespace {

Plot two_curves() {
  Plot plot{.title = "cosine <by> layer", .axis = "layer"};
  plot.curves.push_back({.label = "a & b", .points = {{0, -0.5, 0.1}, {1, 0.25, 0.1}}});
  plot.curves.push_back({.label = "chance", .points = {{0, 0, 0}, {1, 0, 0}}, .is_baseline = true});
  return plot;
}

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(FindingChart, HasABandForErrorsADashForBaselinesAndALineAtZero) {
  const std::string svg = finding_chart(two_curves());
  EXPECT_EQ(count_of(svg, "<polygon class=\"band s0\""), 1u);
  EXPECT_EQ(count_of(svg, "<polyline"), 2u);
  EXPECT_NE(svg.find("series s1 dashed"), std::string::npos);
  EXPECT_NE(svg.find("class=\"zero\""), std::string::npos);
  EXPECT_NE(svg.find("a &amp; b"), std::string::npos);
  EXPECT_NE(svg.find("cosine &lt;by&gt; layer"), std::string::npos);
}

TEST(FindingChart, LeavesOutWhatIsNotFiniteAndIsEmptyWithoutAPoint) {
  Plot plot{.title = "t", .axis = "step"};
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  plot.curves.push_back({.label = "gone", .points = {{0, kNan, 0}}});
  EXPECT_EQ(finding_chart(plot), "");
  plot.curves.push_back({.label = "there", .points = {{3, 1, kNan}, {5, kNan, 0}}});
  const std::string svg = finding_chart(plot);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("gone"), std::string::npos);
  EXPECT_NE(svg.find("there"), std::string::npos);
}

TEST(FindingsPage, HasWordsTablesAndCharts) {
  Finding finding{.title = "Where <to> fork", .paragraphs = {"Nowhere & never."}};
  finding.tables.push_back({"Layers", {"layer", "finding"}, {{"0", "neither"}}});
  finding.plots.push_back(two_curves());
  const std::string page = findings_page("run", {finding});
  EXPECT_NE(page.find("<h2>Where &lt;to&gt; fork</h2><p>Nowhere &amp; never.</p>"),
            std::string::npos);
  EXPECT_NE(page.find("<td>neither</td>"), std::string::npos);
  EXPECT_EQ(count_of(page, "<svg"), 1u);
}

TEST(FindingsText, WrapsWordsAndAlignsColumns) {
  Finding finding{.title = "Found",
                  .paragraphs = {std::string(60, 'a') + " " + std::string(60, 'b')}};
  finding.tables.push_back({"", {"layer", "finding"}, {{"10", "conflict"}}});
  EXPECT_EQ(findings_text({finding}), "Found\n\n" + std::string(60, 'a') + "\n" +
                                          std::string(60, 'b') +
                                          "\n\nlayer  finding\n10     conflict\n");
}

}  // namespace
}  // namespace espalier
