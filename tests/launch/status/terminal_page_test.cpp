#include "launch/status/terminal_page.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "launch/status/file_tail.h"
#include "launch/status/text_chart.h"

namespace espalier {
namespace {

using nlohmann::json;

TEST(TextChart, JoinsPointsWithBrailleDots) {
  EXPECT_EQ(text_chart({{0, 3}, {3, 0}}, 2, 1), std::vector<std::string>{"⠑⢄"});
  EXPECT_EQ(text_chart({{0, 0}, {1, 7}}, 1, 2), (std::vector<std::string>{"⡎", "⡇"}));
}

TEST(TextChart, OnePointOrNoneIsNoMistake) {
  EXPECT_EQ(text_chart({}, 3, 1), std::vector<std::string>{"   "});
  EXPECT_EQ(text_chart({{5, 5}}, 2, 1), std::vector<std::string>{"⡀ "});
  EXPECT_TRUE(text_chart({{5, 5}}, 0, 1).empty());
}

TEST(TextChart, CountsCharactersNotBytes) {
  EXPECT_EQ(cut_to_columns("⠑⢄x", 2), "⠑⢄");
  EXPECT_EQ(fit_to_columns("⠑⢄", 4), "⠑⢄  ");
}

class GrowingFile : public testing::Test {
 protected:
  GrowingFile() : path_(testing::TempDir() + "growing-" + std::to_string(::getpid())) {}
  ~GrowingFile() override { std::filesystem::remove(path_); }
  void append(const std::string& text) { std::ofstream(path_, std::ios::app) << text; }

  std::string path_;
};

TEST_F(GrowingFile, GivesWholeLinesOnce) {
  FileTail tail(path_);
  EXPECT_TRUE(tail.lines().empty());
  append("a\nb");
  EXPECT_EQ(tail.lines(), std::vector<std::string>{"a"});
  EXPECT_TRUE(tail.lines().empty());
  append("c\n\n");
  EXPECT_EQ(tail.lines(), (std::vector<std::string>{"bc", ""}));
}

TEST_F(GrowingFile, IsReadAnewOnceItIsShorter) {
  append("first line\n");
  FileTail tail(path_);
  EXPECT_EQ(tail.lines().size(), 1u);
  std::ofstream(path_) << "new\n";
  EXPECT_EQ(tail.lines(), std::vector<std::string>{"new"});
}

class WatchedRun : public testing::Test {
 protected:
  WatchedRun() {
    for (int step = 10; step <= 100; step += 10) {
      metrics_.add(json{{"global_step", step},
                        {"stage", "both"},
                        {"step", step},
                        {"stage_steps", 200},
                        {"total_steps", 200},
                        {"total_loss", 10.0 / step},
                        {"losses", {{"caption", 1.5}, {"draw", 3.0 / step}}}}
                       .dump());
    }
    view_.metrics = &metrics_;
    view_.status = {{"run", "runs/mine"}, {"state", "running"},      {"generation", 2},
                    {"world_size", 2},    {"restarts", 1},           {"last_commit_step", 50},
                    {"uptime_s", 75.0},   {"events", json::array()}, {"ranks", json::array()}};
    for (int rank = 0; rank < 2; ++rank) {
      view_.status["ranks"].push_back(
          {{"rank", rank}, {"joined", true}, {"step", 100}, {"host", "node"}, {"phase", "reduce"}});
    }
    view_.status["events"].push_back(
        {{"time", 1.0}, {"event", "failure"}, {"text", "rank 1 was killed"}});
  }

  std::string page(int columns, int rows, bool with_colors = false) const {
    std::string text;
    for (const auto& line : terminal_page(view_, columns, rows, with_colors)) text += line + "\n";
    return text;
  }

  MetricsHistory metrics_;
  TerminalView view_;
};

TEST_F(WatchedRun, ShowsStateProgressCurvesRanksAndEvents) {
  const std::string text = page(100, 40);
  for (const char* part :
       {"runs/mine", "running  generation 2, 2 ranks, 1 restarts, last checkpoint step 50, up 1:15",
        "both ████████████░░░░░░░░░░░░ 100/200", "0.1  total  (least 0.1)", "1.5  caption",
        "0.03  draw", "rank host", "rank 1 was killed"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  }
}

TEST_F(WatchedRun, FitsTheTerminal) {
  for (const int columns : {20, 40, 80, 200}) {
    for (const int rows : {3, 10, 24}) {
      const auto lines = terminal_page(view_, columns, rows, false);
      EXPECT_LE(lines.size(), static_cast<size_t>(rows));
      for (const auto& line : lines) EXPECT_EQ(line, cut_to_columns(line, columns));
    }
  }
}

TEST_F(WatchedRun, ColoursOnlyWhereTheyAreWanted) {
  EXPECT_EQ(page(100, 40).find('\033'), std::string::npos);
  EXPECT_NE(page(100, 40, true).find("\033[31m"), std::string::npos);
}

TEST_F(WatchedRun, WhatIsNotOfNowSaysSo) {
  view_.note = "no answer since 12:00:00";
  EXPECT_NE(page(100, 40).find("no answer since 12:00:00\nlast known: running"), std::string::npos);
}

}  // namespace
}  // namespace espalier
