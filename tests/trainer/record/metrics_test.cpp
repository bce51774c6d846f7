#include "trainer/record/metrics.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "data/images/image_codec.h"
#include "tests/trainer/toy_room.h"
#include "trainer/record/tensorboard.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string hex(const std::string& bytes) {
  std::string text;
  for (const char byte : bytes) {
    constexpr const char* kDigits = "0123456789abcdef";
    text += kDigits[static_cast<uint8_t>(byte) >> 4];
    text += kDigits[static_cast<uint8_t>(byte) & 15];
  }
  return text;
}

StepReport report_of(int64_t step, double loss) {
  StepReport report;
  report.stage = "tokenizer";
  report.step = report.global_step = step;
  report.losses = {{"pixel", loss}};
  report.total_loss = loss;
  report.time_s = {{"data", 0.5}};
  return report;
}

std::string run_directory() {
  const std::string directory = fresh_directory("run");
  for (const char* folder : {"tensorboard", "evaluation"}) {
    fs::create_directories(directory + "/" + folder);
  }
  return directory;
}

TEST(Tensorboard, ChecksumIsCrc32c) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);            // the check value of the catalogues
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);  // RFC 3720, B.4
}

// The bytes that the record writer of Python's tensorboard 2 makes from the same values.
TEST(Tensorboard, ScalarsHaveTheBytesOfTheReferenceWriter) {
  EXPECT_EQ(
      hex(tfrecord(scalars_event({{"tokenizer/loss", 0.25}, {"a", -2.0}}, 300, 1700000000.5))),
      "2f000000000000006d5d1d500900002040fc54d94110ac022a210a150a0e746f6b656e697a65722f6c6f7373"
      "150000803e0a080a016115000000c03750dc0e");
}

TEST(Tensorboard, PicturesHaveTheBytesOfTheReferenceWriter) {
  const std::string png("\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\x40\0\0\0\x03", 24);
  EXPECT_EQ(hex(png_event("p", png, 7, 1.5)),
            "09000000000000f83f10072a280a260a01702221080310c0021803221889504e470d0a1a0a0000000d4948"
            "44520000014000000003");
}

TEST(Tensorboard, FileStartsWithItsVersion) {
  const std::string directory = run_directory();
  { const TensorboardWriter writer(directory, 1700000000.5, 0); }
  std::string content;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    EXPECT_EQ(entry.path().filename().string().rfind("events.out.tfevents.1700000000.", 0), 0u);
    std::ifstream file(entry.path(), std::ios::binary);
    content.assign(std::istreambuf_iterator<char>(file), {});
  }
  EXPECT_NE(content.find("brain.Event:2"), std::string::npos);
}

TEST(RunLog, LinesHoldWhatTheReportNeeds) {
  const std::string directory = run_directory();
  {
    RunLog log(directory, true, 3, 0);
    log.metrics(report_of(10, 0.5));
    log.event({{"event", "stopped"}, {"step", 10}});
  }
  const auto lines = read_metrics(directory);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0].at("stage"), "tokenizer");
  EXPECT_EQ(lines[0].at("losses").at("pixel"), 0.5);
  EXPECT_EQ(lines[0].at("time_s").at("data"), 0.5);
  EXPECT_EQ(lines[0].at("generation"), 3);
  std::ifstream events(directory + "/events.jsonl");
  const json event = json::parse(events);
  EXPECT_EQ(event.at("event"), "stopped");
  EXPECT_TRUE(event.contains("time"));
}

// What TensorBoard files of a run hold.
std::string tensorboard_bytes(const std::string& directory) {
  std::string bytes;
  for (const auto& entry : fs::directory_iterator(directory + "/tensorboard")) {
    std::ifstream file(entry.path(), std::ios::binary);
    bytes.append(std::istreambuf_iterator<char>(file), {});
  }
  return bytes;
}

Section section_with_picture(const std::string& picture) {
  Section section;
  section.name = "reconstruct";
  section.metrics = {{"mimic_cosine", "cosine", 0.5}};
  section.series = {{"psnr_db", "PSNR", "codes", {"1", "2"}, {20.0, 21.0}}};
  section.tables = {{"Examples", {"truth"}, {{"a cat"}}}};
  section.pictures = {{"codes", picture, ""}};
  return section;
}

TEST(RunLog, NumbersAndPicturesOfAnEvaluationAreInTensorboardByStageAndSection) {
  const std::string directory = run_directory();
  const std::string picture = directory + "/tokenizer-0000400-reconstruct-codes.png";
  write_png(picture, Image{2, 3, std::vector<uint8_t>(18, 9)});
  {
    RunLog log(directory, true, 1, 0);
    log.evaluation("tokenizer", 400, 400, {section_with_picture(picture)});
  }
  const std::string content = tensorboard_bytes(directory);
  for (const char* tag : {"tokenizer/reconstruct/mimic_cosine", "tokenizer/reconstruct/psnr_db/1",
                          "tokenizer/reconstruct/psnr_db/2", "tokenizer/reconstruct/codes"}) {
    EXPECT_NE(content.find(tag), std::string::npos) << tag;
  }
}

TEST(RunLog, APictureThatCannotBeReadIsLeftOutOfTensorboard) {
  const std::string directory = run_directory();
  {
    RunLog log(directory, true, 1, 0);
    log.evaluation("tokenizer", 400, 400, {section_with_picture("/nonexistent.png")});
  }
  EXPECT_NE(tensorboard_bytes(directory).find("tokenizer/reconstruct/psnr_db/2"),
            std::string::npos);
}

TEST(RunLog, HistoryHasTheSectionsWithoutTheirTables) {
  const std::string directory = run_directory();
  {
    RunLog log(directory, false, 2, 0);
    log.evaluation("tokenizer", 40, 70, {section_with_picture("/nonexistent.png")});
  }
  std::ifstream file(directory + "/evaluation/history.jsonl");
  const json line = json::parse(file);
  EXPECT_EQ(line.at("stage"), "tokenizer");
  EXPECT_EQ(line.at("step"), 40);
  EXPECT_EQ(line.at("global_step"), 70);
  EXPECT_EQ(line.at("generation"), 2);
  EXPECT_EQ(line.at("sections").at(0).at("metrics").at(0).at("value"), 0.5);
  EXPECT_FALSE(line.at("sections").at(0).contains("tables"));
}

TEST(RunLog, RelaunchReplacesTheStepsThatWereLost) {
  const std::string directory = run_directory();
  {
    RunLog log(directory, false, 1, 0);
    for (const int64_t step : {10, 20, 30, 40}) log.metrics(report_of(step, 1.0));
  }
  std::ofstream(directory + "/metrics.jsonl", std::ios::app) << "{\"stage\":\"tok";  // killed
  {
    RunLog log(directory, false, 2, 20);
    log.metrics(report_of(30, 2.0));
  }
  const auto lines = read_metrics(directory);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[1].at("total_loss"), 1.0);
  EXPECT_EQ(lines[2].at("global_step"), 30);
  EXPECT_EQ(lines[2].at("total_loss"), 2.0);
}

TEST(RunLog, LossThatIsNotFiniteIsStillALineOfJson) {
  const std::string directory = run_directory();
  {
    RunLog log(directory, true, 1, 0);
    log.metrics(report_of(10, std::numeric_limits<double>::quiet_NaN()));
  }
  ASSERT_EQ(read_metrics(directory).size(), 1u);
  EXPECT_TRUE(read_metrics(directory)[0].at("total_loss").is_null());
}

}  // namespace
}  // namespace espalier
