#include "launch/report/report_page.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "launch/report/report_chart.h"
#include "launch/report/report_sections.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// A run directory as a training of two stages leaves it.
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
    std::string lines;
    for (const char* stage : {"tokenizer", "unified"}) {
      for (int step = 10; step <= 30; step += 10) {
        lines += json{{"stage", stage},
                      {"step", step},
                      {"global_step", step + (stage[0] == 'u' ? 30 : 0)},
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
    }
    write("metrics.jsonl", lines + "{\"stage\": \"unif");  // the last line is torn
    write("events.jsonl",
          "{\"event\":\"started\",\"generation\":1,\"time\":1000}\n"
          "{\"event\":\"failure\",\"generation\":1,\"time\":1010,\"text\":\"rank 1 died\"}\n"
          "{\"event\":\"evaluation\",\"stage\":\"tokenizer\",\"seconds\":4,\"generation\":2,"
          "\"time\":1020}\n"
          "{\"event\":\"finished\",\"generation\":2,\"time\":1030}\n");
    write("evaluation/tokenizer.json",
          json{{"tokenizer",
                {{"psnr_db_by_stage", {20.0, 22.0, 24.0, 25.0}},
                 {"psnr_db_mean_image", 11.6},
                 {"code_usage_by_stage", {1.0, 0.95, 0.9, 0.97, 0.92, 0.93}},
                 {"semantic_cosine_by_stage", {0.3, 0.35, 0.4, 0.45, 0.5, 0.55}},
                 {"group_knn_by_stage", {0.4, 0.45, 0.5, 0.52, 0.6, 0.65}},
                 {"mimic_cosine", 0.7}}},
               {"pictures", {"/elsewhere/images/tokenizer-0000030-test.png"}}}
              .dump());
    write("evaluation/unified.json",
          json{{"understanding",
                {{"group_accuracy", 0.62},
                 {"group_accuracy_majority", 0.3},
                 {"group_accuracy_pixels", 0.53},
                 {"captions", {{{"truth", "<b>cat"}, {"said", "cat"}}}}}},
               {"generation", {{"code_accuracy", 0.2}}}}
              .dump());
    write("images/tokenizer-0000010-test.png", "early");
    write("images/tokenizer-0000030-test.png", "final");
  }
  void TearDown() override { fs::remove_all(run_); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(run_ / name) << text;
  }
  fs::path run_;
};

TEST_F(ReportTest, JsonHasTheDocumentedKeys) {
  const json report = report_json(read_report_data(run_));
  for (const char* key : {"psnr_db_by_stage", "psnr_db_mean_image", "code_usage_by_stage",
                          "semantic_cosine_by_stage", "group_knn_by_stage", "mimic_cosine"}) {
    EXPECT_TRUE(report["tokenizer"].contains(key)) << key;
  }
  EXPECT_EQ(report["understanding"]["group_accuracy"], 0.62);
  EXPECT_EQ(report["generation"]["code_accuracy"], 0.2);
  EXPECT_TRUE(report["samples_per_s"].contains("unified"));
  EXPECT_NEAR(report["time_s"]["tokenizer"]["reduce"], 3.0, 1e-9);
  EXPECT_NEAR(report["time_s"]["tokenizer"]["training"], 12.0, 1e-9);
  EXPECT_EQ(report["time_s"]["tokenizer"]["evaluation"], 4.0);
}

TEST_F(ReportTest, ThroughputIsAllSamplesOverAllTime) {
  const ReportData data = read_report_data(run_);
  // 960 samples each at 100, 200 and 300 per second.
  EXPECT_NEAR(data.stages.at(0).mean_samples_per_s, 2880 / (9.6 + 4.8 + 3.2), 1e-6);
}

TEST_F(ReportTest, TimeBetweenGenerationsIsNotCounted) {
  EXPECT_EQ(read_report_data(run_).wall_s, 20);
  EXPECT_EQ(read_report_data(run_).generations, 2);
}

TEST_F(ReportTest, PageIsSelfContained) {
  const std::string page = report_page(read_report_data(run_));
  EXPECT_EQ(page.find("http"), std::string::npos);
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_NE(page.find("data:image/png;base64," + base64("final")), std::string::npos);
  EXPECT_NE(page.find("nearest neighbour on raw pixels"), std::string::npos);
  EXPECT_NE(page.find("rank 1 died"), std::string::npos);
}

TEST_F(ReportTest, TextFromTheRunIsNeverMarkup) {
  const std::string page = report_page(read_report_data(run_));
  EXPECT_EQ(page.find("<b>cat"), std::string::npos);
  EXPECT_NE(page.find("&lt;b&gt;cat"), std::string::npos);
  EXPECT_EQ(page.find("<comment>"), std::string::npos);
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

TEST_F(ReportTest, WhatIsNoRunIsRefused) {
  EXPECT_THROW(read_report_data(run_ / "images"), ConfigError);
}

TEST(ReportChart, TicksAreRoundAndInside) {
  EXPECT_EQ(nice_ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(nice_ticks(130, 420, 3), (std::vector<double>{200, 300, 400}));
  EXPECT_EQ(nice_ticks(3, 3, 3), (std::vector<double>{3}));
}

TEST(ReportChart, NumbersAreShort) {
  EXPECT_EQ(short_number(0.0312), "0.0312");
  EXPECT_EQ(short_number(12500), "12.5k");
  EXPECT_EQ(short_number(24.63), "24.6");
  EXPECT_EQ(short_number(0), "0");
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
