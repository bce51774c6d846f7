#include "trainer/evaluation/section.h"

#include <cmath>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace espalier {
namespace {

using nlohmann::json;

Section full_section() {
  Section section;
  section.name = "answers";
  section.title = "Answers";
  section.text = "What was asked.";
  section.metrics = {{"accuracy",
                      "right answers",
                      0.5,
                      0.25,
                      "%",
                      true,
                      {{"chance", 0.125}, {"not measured", kUnknown}},
                      false},
                     {"loss", "surprise", kUnknown, kUnknown, "nats", false, {}, true}};
  section.series = {
      {"psnr_db", "PSNR", "codes", {"one", "two"}, {20.5, kUnknown}, "dB", {{"mean", 11.5}}}};
  section.tables = {{"Examples", {"truth", "answer"}, {{"cat", "dog"}, {"a", "a"}}}};
  section.pictures = {{"drawn", "/run/images/a.png", "rows of pictures"}};
  return section;
}

TEST(Section, ComesBackFromJsonAsItWas) {
  const json written = to_json(full_section());
  EXPECT_EQ(to_json(section_from_json(json::parse(written.dump()))), written);
}

TEST(Section, EveryFieldIsInItsJson) {
  const json written = to_json(full_section());
  EXPECT_EQ(written["metrics"][0],
            json::parse(R"({"name": "accuracy", "label": "right answers", "value": 0.5,
                            "standard_error": 0.25, "unit": "%", "is_headline": true,
                            "is_lower_better": false,
                            "baselines": [{"label": "chance", "value": 0.125},
                                          {"label": "not measured", "value": null}]})"));
  EXPECT_EQ(written["series"][0],
            json::parse(R"({"name": "psnr_db", "label": "PSNR", "axis": "codes",
                            "places": ["one", "two"], "values": [20.5, null], "unit": "dB",
                            "baselines": [{"label": "mean", "value": 11.5}]})"));
  EXPECT_EQ(written["tables"][0]["rows"][0], json::parse(R"(["cat", "dog"])"));
  EXPECT_EQ(written["pictures"][0]["path"], "/run/images/a.png");
}

TEST(Section, UnknownNumbersAreNullAndComeBackUnknown) {
  const json written = to_json(full_section());
  EXPECT_TRUE(written["metrics"][1]["value"].is_null());
  const Section back = section_from_json(written);
  EXPECT_TRUE(std::isnan(back.metrics[1].value));
  EXPECT_TRUE(std::isnan(back.series[0].values[1]));
  EXPECT_TRUE(std::isnan(back.metrics[0].baselines[1].value));
}

TEST(Section, MissingFieldsKeepTheirDefaults) {
  const Section section = section_from_json(json::parse(R"({"metrics": [{"name": "accuracy"}]})"));
  EXPECT_EQ(section.title, "");
  ASSERT_EQ(section.metrics.size(), 1u);
  EXPECT_EQ(section.metrics[0].name, "accuracy");
  EXPECT_TRUE(std::isnan(section.metrics[0].value));
  EXPECT_FALSE(section.metrics[0].is_headline);
  EXPECT_TRUE(section.metrics[0].baselines.empty());
}

TEST(Section, FieldsOfAnotherTypeKeepTheirDefaults) {
  const Section section = section_from_json(json::parse(
      R"({"name": 7, "metrics": {"a": 1}, "tables": [3], "pictures": null,
          "series": [{"places": ["1"], "values": ["high"], "baselines": "none"}]})"));
  EXPECT_EQ(section.name, "");
  EXPECT_TRUE(section.metrics.empty());
  EXPECT_TRUE(section.pictures.empty());
  ASSERT_EQ(section.series.size(), 1u);
  EXPECT_TRUE(std::isnan(section.series[0].values.at(0)));
  EXPECT_TRUE(section.series[0].baselines.empty());
  EXPECT_EQ(section.tables.at(0).title, "");
  EXPECT_EQ(section_from_json(json("no object")).name, "");
  EXPECT_TRUE(sections_from_json(json::object()).empty());
}

TEST(Section, ShortValuesAndRowsAreFilledUp) {
  const Section section =
      section_from_json(json::parse(R"({"series": [{"places": ["1", "2"], "values": [5]}],
                      "tables": [{"columns": ["a", "b"], "rows": [["x"], ["x", "y", "z"]]}]})"));
  EXPECT_EQ(section.series[0].values.size(), 2u);
  EXPECT_EQ(section.tables[0].rows[0], (std::vector<std::string>{"x", ""}));
  EXPECT_EQ(section.tables[0].rows[1], (std::vector<std::string>{"x", "y"}));
}

TEST(Section, NumbersGoByPathWithPlacesFromOneAndWithoutUnknownOnes) {
  Section section = full_section();
  section.series[0].values = {20.5, 22.0};
  EXPECT_EQ(numbers_of(section), (std::vector<std::pair<std::string, double>>{
                                     {"accuracy", 0.5}, {"psnr_db/1", 20.5}, {"psnr_db/2", 22.0}}));
}

TEST(Section, TheBestBaselineIsTheHighestUnlessLowerIsBetter) {
  Metric metric{"m", "m"};
  EXPECT_EQ(best_baseline(metric), nullptr);
  metric.baselines = {{"low", 1}, {"high", 2}, {"unknown", kUnknown}};
  EXPECT_EQ(best_baseline(metric)->label, "high");
  metric.is_lower_better = true;
  EXPECT_EQ(best_baseline(metric)->label, "low");
}

}  // namespace
}  // namespace espalier
