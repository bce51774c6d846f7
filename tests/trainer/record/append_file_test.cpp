#include "trainer/record/append_file.h"

#include <filesystem>
#include <fstream>
#include <optional>

#include <gtest/gtest.h>

#include "small_disk.h"
#include "toy_room.h"
#include "trainer/record/metrics.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

TEST(AppendFile, StartsALineOfItsOwnBehindOneThatWasCutShort) {
  const std::string directory = fresh_directory("run");
  fs::create_directories(directory);
  const std::string path = directory + "/lines";
  AppendFile file(path);
  EXPECT_TRUE(file.append_line("first"));
  std::ofstream(path, std::ios::app) << "torn by ano";
  EXPECT_TRUE(file.append_line("second"));
  EXPECT_EQ(lines_of(path), (std::vector<std::string>{"first", "torn by ano", "second"}));
}

TEST(AppendFile, OnAFullDiskLeavesNoPartOfALineAndGoesOnWhenThereIsRoom) {
  const auto body = [](const std::string& directory) {
    const std::string path = directory + "/lines", line(1500, 'a');
    AppendFile file(path);
    EXPECT_TRUE(file.append_line(line));
    {
      const DiskFiller filler(directory);
      int64_t written = 0;
      while (file.append_line(line)) ASSERT_LT(++written, 100);
      EXPECT_NE(file.error().find("No space left on device"), std::string::npos) << file.error();
      EXPECT_EQ(fs::file_size(path), static_cast<uintmax_t>(written + 1) * 1501);
    }
    EXPECT_EQ(file.take_left_out(), 1);
    EXPECT_TRUE(file.append_line("after"));
    for (const std::string& found : lines_of(path)) EXPECT_TRUE(found == line || found == "after");
  };
  if (!on_small_disk(8 << 20, body)) GTEST_SKIP() << "this process may not mount a file system";
}

TEST(RunLog, OnAFullDiskLosesLinesAndComesBackWhole) {
  const auto body = [](const std::string& directory) {
    for (const char* folder : {"tensorboard", "evaluation"}) {
      fs::create_directories(directory + "/" + folder);
    }
    RunLog log(directory, true, 1, 0);
    StepReport report;
    report.stage = "codes";
    std::optional<DiskFiller> filler;
    for (int64_t step = 1; step <= 90; ++step) {
      if (step == 30 || step == 60) log.flush();
      if (step == 30) filler.emplace(directory);
      if (step == 60) filler.reset();
      report.step = report.global_step = step;
      log.metrics(report);
    }
    log.flush();
    int64_t after = 0;
    for (const std::string& text : lines_of(directory + "/metrics.jsonl")) {
      const json line = json::parse(text, nullptr, false);
      ASSERT_FALSE(line.is_discarded()) << text;
      after += line.at("global_step") >= 60;
    }
    EXPECT_EQ(after, 31);
    const size_t kept = read_metrics(directory).size();
    EXPECT_GE(kept, 60u);
    EXPECT_LT(kept, 90u) << "the disk was not full";
  };
  if (!on_small_disk(8 << 20, body)) GTEST_SKIP() << "this process may not mount a file system";
}

TEST(RunLog, TakesTextsThatAreNoUtf8) {
  const std::string directory = fresh_directory("run");
  fs::create_directories(directory);
  {
    RunLog log(directory, false, 1, 0);
    log.event({{"event", "checkpoint_quarantined"}, {"reason", "last read: '\xd8\"'"}});
  }
  const auto events = read_events(directory);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].at("reason"), "last read: '\xef\xbf\xbd\"'");
}

}  // namespace
}  // namespace espalier
