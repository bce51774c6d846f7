#include "launch/report/report_page.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "launch/report/report_bars.h"
#include "launch/report/report_chart.h"
#include "launch/report/report_json.h"
#include "launch/report/report_pictures.h"
#include "launch/report/report_sections.h"
#include "launch/report/report_svg.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// A run directory as a training of two stages leaves it: "first", evaluated at its end, and
// "second", which still trains.
class ReportTest : public testing::Test {
 protected:
  void SetUp() override {
    run_ = fs::path(testing::TempDir()) / ("report-" + std::to_string(::getpid()));
    fs::create_directories(run_ / "evaluation");
    fs::create_directories(run_ / "images");
    write("config.toml", "seed = 1  # a <comment>\n");
    write("run.json", json{{"state", "finished"},
                           {"generation", 2},
                           {"world_size", 2},
                           {"backend", "mpi"},
                           {"device", "cpu"},
                           {"step", 60},
                           {"total_steps", 60}}
                          .dump());
    write("metrics.jsonl", metric_lines("first", 0) + metric_lines("second", 30) +
                               "{\"stage\": \"seco");  // the last line is torn
    write("events.jsonl",
          "{\"event\":\"started\",\"generation\":1,\"time\":1000}\n"
          "{\"event\":\"failure\",\"generation\":1,\"time\":1010,\"text\":\"rank 1 died\"}\n"
          "{\"event\":\"evaluation\",\"stage\":\"first\",\"seconds\":4,\"generation\":2,"
          "\"time\":1020}\n"
          "{\"event\":\"finished\",\"generation\":2,\"time\":1030}\n");
    write_evaluation("first", 30, {codes_section()});
    Section answers;
    answers.name = "answers";
    answers.metrics = {{"exact", "exact answers", 0.25}};
    write("evaluation/history.jsonl",
          history_line("first", 10, Section{"old", "Older than the end", ""}) +
              history_line("second", 10, Section{"old", "Older than the newest", ""}) +
              history_line("second", 20, answers));
    write("images/first-0000010-codes-sheet.png", "early");
    write("images/first-0000020-codes-sheet.png", "later");
    write("images/first-0000030-codes-sheet.png", "final");
  }
  void TearDown() override { fs::remove_all(run_); }

  static std::string metric_lines(const std::string& stage, int first_step) {
    std::string lines;
    for (int step = 10; step <= 30; step += 10) {
      lines += json{{"stage", stage},
                    {"step", step},
                    {"global_step", first_step + step},
                    {"samples", 96 * step},
                    {"losses", {{"objective", 1.0 / step}}},
                    {"total_loss", 1.0 / step},
                    {"learning_rate", 1e-3},
                    {"grad_norm", nullptr},
                    {"samples_per_s", 100.0 * step / 10},
                    {"time_s", {{"forward_backward", 0.3}, {"reduce", 0.1}}},
                    {"generation", 1}}
                   .dump() +
               "\n";
    }
    return lines;
  }

  static Section codes_section() {
    Section section;
    section.name = "codes";
    section.title = "Codes & pixels";
    section.text = "Measured on held-out images.";
    section.metrics = {
        {"share", "share of right ones", 0.625, 0.0125, "", true, {{"chance", 0.3}, {"raw", 0.53}}},
        {"loss", "surprise", 1.5, kUnknown, "nats", false, {{"uniform", 6.25}}, true},
        {"unmeasured", "not measured", kUnknown}};
    section.series = {{"height",
                       "Height",
                       "codes used",
                       {"1", "2"},
                       {20.5, 22.25},
                       "dB",
                       {{"mean image", 11.5}, {"same bytes", 21.75}}},
                      {"usage", "Usage", "codes used", {"1", "2"}, {1.0, kUnknown}}};
    section.tables = {{"Examples", {"truth", "said"}, {{"<b>cat", "a cat"}}}};
    section.pictures = {
        {"sheet", "/elsewhere/images/first-0000030-codes-sheet.png", "rows of <pictures>"}};
    return section;
  }

  static std::string history_line(const std::string& stage, int step, const Section& section) {
    return json{{"stage", stage}, {"step", step}, {"sections", to_json(std::vector{section})}}
               .dump() +
           "\n";
  }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(run_ / name) << text;
  }
  void write_evaluation(const std::string& stage, int step,
                        const std::vector<Section>& sections) const {
    write("evaluation/" + stage + ".json",
          json{{"stage", stage}, {"step", step}, {"sections", to_json(sections)}}.dump());
  }
  std::string page() const { return report_page(read_report_data(run_)); }

  fs::path run_;
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
  return count;
}

TEST_F(ReportTest, JsonHasTheNumbersOfEverySectionByStageAndName) {
  const json stages = report_json(read_report_data(run_)).at("stages");
  const json& section = stages.at("first").at("sections").at("codes");
  EXPECT_EQ(section.at("title"), "Codes & pixels");
  const json& share = section.at("metrics").at("share");
  EXPECT_EQ(share.at("value"), 0.625);
  EXPECT_EQ(share.at("standard_error"), 0.0125);
  EXPECT_EQ(share.at("baselines"), json::parse(R"({"chance": 0.3, "raw": 0.53})"));
  EXPECT_TRUE(section.at("metrics").at("unmeasured").at("value").is_null());
  const json& height = section.at("series").at("height");
  EXPECT_EQ(height.at("places"), json::parse(R"(["1", "2"])"));
  EXPECT_EQ(height.at("values"), json::parse("[20.5, 22.25]"));
  EXPECT_EQ(height.at("baselines").at("same bytes"), 21.75);
  EXPECT_EQ(section.at("tables").at(0).at("rows"), json::parse(R"([["<b>cat", "a cat"]])"));
  EXPECT_EQ(section.at("pictures").at(0).at("path"), "images/first-0000030-codes-sheet.png");
}

TEST_F(ReportTest, JsonHasTheTimesOfTheRunAndItsStages) {
  const json report = report_json(read_report_data(run_));
  EXPECT_EQ(report.at("run").at("state"), "finished");
  EXPECT_EQ(report.at("time_s").at("total"), 20);
  const json& stage = report.at("stages").at("first");
  EXPECT_NEAR(stage.at("time_s").at("reduce"), 3.0, 1e-9);
  EXPECT_NEAR(stage.at("time_s").at("training"), 12.0, 1e-9);
  EXPECT_EQ(stage.at("time_s").at("evaluation"), 4.0);
  // 960 samples each at 100, 200 and 300 per second.
  EXPECT_NEAR(stage.at("samples_per_s"), 2880 / (9.6 + 4.8 + 3.2), 1e-6);
}

TEST_F(ReportTest, TimeBetweenGenerationsIsNotCounted) {
  EXPECT_EQ(read_report_data(run_).wall_s, 20);
  EXPECT_EQ(read_report_data(run_).generations, 2);
}

TEST_F(ReportTest, AStageThatStillTrainsShowsItsNewestEvaluation) {
  const ReportData data = read_report_data(run_);
  ASSERT_EQ(data.stages.size(), 2u);
  EXPECT_TRUE(data.stages[0].is_final);
  EXPECT_EQ(data.stages[0].sections.at(0).name, "codes");
  EXPECT_FALSE(data.stages[1].is_final);
  EXPECT_EQ(data.stages[1].evaluated_step, 20);
  EXPECT_TRUE(contains(page(), "exact answers"));
  EXPECT_FALSE(contains(page(), "Older than"));
}

TEST_F(ReportTest, HeadlinesStandAtTheTopBesideTheirBestBaseline) {
  const std::string text = page();
  const std::string top = text.substr(0, text.find("<h2>"));
  EXPECT_TRUE(contains(top, "share of right ones</span><b>0.625</b><span>raw 0.53"));
  EXPECT_FALSE(contains(top, "surprise"));
  EXPECT_TRUE(contains(top, "samples/s, second"));
}

TEST_F(ReportTest, MetricsStandBesideTheirErrorsAndBaselines) {
  const std::string text = page();
  EXPECT_TRUE(contains(text, "<th class=\"n\">chance</th><th class=\"n\">raw</th>"));
  EXPECT_TRUE(contains(text,
                       "<td>share of right ones</td><td class=\"n\"><b>0.625 ± 0.013</b></td>"
                       "<td class=\"n\">0.3</td><td class=\"n\">0.53</td>"));
  EXPECT_TRUE(contains(text, "<td>surprise (nats)</td><td class=\"n\"><b>1.5</b></td>"));
  EXPECT_TRUE(contains(text, "<td>not measured</td><td class=\"n\">–</td>"));
}

TEST_F(ReportTest, ABaselineThatIsBetterIsTheBoldOne) {
  Section section = codes_section();
  section.metrics = {{"share", "share", 0.5, kUnknown, "", false, {{"raw", 0.75}}}};
  write_evaluation("first", 30, {section});
  EXPECT_TRUE(contains(page(), "<td class=\"n\">0.5</td><td class=\"n\"><b>0.75</b></td>"));
}

TEST_F(ReportTest, SeriesOverTheSamePlacesShareATable) {
  const std::string text = page();
  EXPECT_EQ(count_of(text, "<th>codes used</th><th class=\"n\">1</th><th class=\"n\">2</th>"), 1u);
  EXPECT_TRUE(
      contains(text, "<td>Height (dB)</td><td class=\"n\">20.5</td><td class=\"n\">22.2</td>"));
  EXPECT_TRUE(contains(text, "<td>Usage</td><td class=\"n\">1</td><td class=\"n\">–</td>"));
  EXPECT_TRUE(contains(text, "mean image</td><td class=\"all soft\" colspan=\"2\">11.5"));
}

TEST_F(ReportTest, EarlierPicturesAreFoldedAwayAndTheFinalOneIsNot) {
  const std::string text = page();
  const size_t folded = text.find("pictures made while it trained");
  ASSERT_NE(folded, std::string::npos);
  EXPECT_LT(text.find(base64("final")), folded);
  EXPECT_GT(text.find(base64("early")), folded);
  EXPECT_GT(text.find(base64("later")), folded);
  EXPECT_EQ(count_of(text, base64("final")), 1u);
  EXPECT_TRUE(contains(text, "rows of &lt;pictures&gt;"));
}

TEST_F(ReportTest, OfManyEarlierPicturesTheFirstTheLastAndSomeBetweenAreShown) {
  for (int step = 11; step < 20; ++step) {
    write("images/first-00000" + std::to_string(step) + "-codes-sheet.png", "between");
  }
  const std::string text = page();
  EXPECT_EQ(count_of(text, "<figure>"), 1u + 4u);
  EXPECT_TRUE(contains(text, base64("early")));
  EXPECT_TRUE(contains(text, base64("later")));
}

TEST_F(ReportTest, AStageDoesNotTakePicturesOfOneWhoseNameBeginsLikeIts) {
  write("metrics.jsonl", metric_lines("first", 0) + metric_lines("first-again", 30));
  write("images/first-again-0000010-codes-sheet.png", "again");
  for (const auto& picture : read_report_data(run_).earlier_pictures) {
    EXPECT_EQ(picture.stage, contains(picture.path, "again") ? "first-again" : "first");
  }
}

TEST_F(ReportTest, LongTablesFoldTheirRest) {
  Section section = codes_section();
  section.tables[0].rows.assign(30, {"x", "y"});
  write_evaluation("first", 30, {section});
  EXPECT_TRUE(contains(page(), "<summary>6 more</summary>"));
}

TEST_F(ReportTest, PageIsSelfContained) {
  const std::string text = page();
  EXPECT_FALSE(contains(text, "http"));
  EXPECT_FALSE(contains(text, "<script"));
  EXPECT_TRUE(contains(text, "data:image/png;base64," + base64("final")));
  EXPECT_TRUE(contains(text, "rank 1 died"));
}

TEST_F(ReportTest, TextFromTheRunIsNeverMarkup) {
  const std::string text = page();
  EXPECT_FALSE(contains(text, "<b>cat"));
  EXPECT_TRUE(contains(text, "&lt;b&gt;cat"));
  EXPECT_FALSE(contains(text, "<comment>"));
}

TEST_F(ReportTest, FilesAreWrittenIntoTheRun) {
  EXPECT_EQ(write_report(run_), (run_ / "report.html").string());
  std::ifstream file(run_ / "report.json");
  EXPECT_EQ(json::parse(file)["run"]["state"], "finished");
}

TEST_F(ReportTest, ARunThatHasOnlyBegunIsReportedToo) {
  for (const char* name : {"metrics.jsonl", "events.jsonl", "run.json", "evaluation", "images"}) {
    fs::remove_all(run_ / name);
  }
  EXPECT_NO_THROW(write_report(run_));
}

TEST_F(ReportTest, EvaluationFilesOfAnotherShapeShowNothing) {
  write("evaluation/first.json", R"({"sections": {"codes": 7}})");
  write("evaluation/history.jsonl", "[]\n{\"stage\": \"second\", \"sections\": [3]}\n");
  EXPECT_NO_THROW(write_report(run_));
}

TEST_F(ReportTest, WhatIsNoRunIsRefused) {
  EXPECT_THROW(read_report_data(run_ / "images"), ConfigError);
}

TEST(ReportNumbers, TicksAreRoundAndInside) {
  EXPECT_EQ(nice_ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(nice_ticks(130, 420, 3), (std::vector<double>{200, 300, 400}));
  EXPECT_EQ(nice_ticks(3, 3, 3), (std::vector<double>{3}));
}

TEST(ReportNumbers, AreShort) {
  EXPECT_EQ(short_number(0.0312), "0.0312");
  EXPECT_EQ(short_number(12500), "12.5k");
  EXPECT_EQ(short_number(24.63), "24.6");
  EXPECT_EQ(short_number(0), "0");
}

TEST(ReportNumbers, ErrorsSayHowManyDigitsMeanSomething) {
  EXPECT_EQ(with_error(24.6301, 0.043), "24.630 ± 0.043");
  EXPECT_EQ(with_error(1234.4, 56), "1234 ± 56");
  EXPECT_EQ(with_error(0.5, kUnknown), "0.5");
  EXPECT_EQ(with_error(1, 0), "1 ± 0");
}

Series bars(std::vector<double> values, std::vector<Baseline> baselines = {}) {
  Series series{"s", "S", "places", {}, std::move(values), "", std::move(baselines)};
  for (size_t i = 0; i < series.values.size(); ++i) {
    series.places.push_back("place " + std::to_string(i));
  }
  return series;
}

TEST(BarChart, EveryKnownBaselineHasALineAndALegend) {
  const std::string chart =
      bar_chart(bars({1, 2}, {{"chance", 0.5}, {"unknown", kUnknown}, {"pixels", 1.5}}));
  EXPECT_EQ(count_of(chart, "class=\"baseline"), 2u * 2u);
  EXPECT_TRUE(contains(chart, "chance 0.5"));
  EXPECT_TRUE(contains(chart, "pixels 1.5"));
  EXPECT_FALSE(contains(chart, "unknown"));
}

TEST(BarChart, NegativeValuesHangBelowZero) {
  const std::string chart = bar_chart(bars({-1, 1}));
  EXPECT_EQ(count_of(chart, "<rect"), 2u);
  EXPECT_FALSE(contains(chart, "height=\"-"));
}

TEST(BarChart, AValueThatIsUnknownHasNoBar) {
  EXPECT_EQ(count_of(bar_chart(bars({kUnknown, 1})), "<rect"), 1u);
  EXPECT_EQ(bar_chart(bars({kUnknown})), "");
  EXPECT_EQ(bar_chart(bars({})), "");
}

TEST(BarChart, OfManyBarsOnlySomeAreLabelled) {
  const std::string chart = bar_chart(bars(std::vector<double>(100, 1.0)));
  EXPECT_EQ(count_of(chart, "<rect"), 100u);
  EXPECT_LT(count_of(chart, "class=\"tick\" text-anchor=\"middle\""), 30u);
}

TEST(ReportChart, AConstantCurveIsDrawn) {
  EXPECT_NE(line_chart({"x", {{1, 2}, {2, 2}, {3, 2}}}, {"x"}).find("<polyline"),
            std::string::npos);
}

TEST(Base64, MatchesTheStandardsExamples) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
}

}  // namespace
}  // namespace espalier
