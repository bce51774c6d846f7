#include "launch/worker/progress.h"

#include <gtest/gtest.h>

namespace espalier {
namespace {

StepReport half_way() {
  StepReport report;
  report.stage = "tokenizer";
  report.step = 50;
  report.stage_steps = 100;
  report.total_loss = 0.25;
  report.samples_per_s = 312.4;
  report.eta_s = 83;
  report.losses = {{"pixel", 0.5}};
  return report;
}

TEST(Progress, DrawsABarWithStageStepLossSpeedEtaAndPhase) {
  EXPECT_EQ(format_bar(half_way(), name_of(Phase::kReduce), 200),
            "tokenizer ████████████░░░░░░░░░░░░ 50/100  loss 0.2500  312 samples/s  ETA 1:23  "
            "reduce");
}

TEST(Progress, CutsTheBarToTheTerminal) {
  const std::string bar = format_bar(half_way(), name_of(Phase::kReduce), 12);
  EXPECT_EQ(bar, "tokenizer ██");
}

TEST(Progress, WritesPlainLinesWhereThereIsNoTerminal) {
  std::FILE* file = std::tmpfile();
  {
    Progress progress(file);
    progress.step(half_way());
    progress.step(half_way());  // within ten seconds: not again
    progress.say("checkpoint");
  }
  std::rewind(file);
  std::string text(200, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  EXPECT_EQ(text,
            "tokenizer 50/100  loss 0.2500  312 samples/s  ETA 1:23\n"
            "checkpoint\n");
}

TEST(Progress, CountsLongWorkBetweenTheSteps) {
  std::FILE* file = std::tmpfile();
  {
    Progress progress(file);
    progress.work({"teacher features", 16, 1517});
    progress.work({"teacher features", 32, 1517});  // within ten seconds: not again
    progress.work({"teacher features", 1517, 1517});
    progress.work({"teacher features", 1517, 1517});  // said already
  }
  std::rewind(file);
  std::string text(200, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  EXPECT_EQ(text,
            "teacher features 16/1517  ETA -\n"
            "teacher features 1517/1517  ETA 0:00\n");
}

TEST(Progress, LinesHaveEveryLossAndWhatTheHardwareDoes) {
  StepReport report = half_way();
  report.losses = {{"caption", 1.5}, {"draw", 3.25}};
  report.tokens_per_s = 20000;
  report.flops_per_s = 4e14;
  report.peak_share = 0.404;
  report.host_memory_bytes = int64_t{3} << 30;
  report.device_memory_bytes = int64_t{40} << 30;
  EXPECT_EQ(
      format_line(report),
      "tokenizer 50/100  loss 0.2500  312 samples/s  20000 tokens/s  ETA 1:23  caption 1.5000 "
      "draw 3.2500  400 TFLOP/s (40% of peak)  3.0 GiB, GPU 40.0 GiB");
}

TEST(Progress, WritesDurationsLikeAClock) {
  EXPECT_EQ(format_duration(0.4), "0:00");
  EXPECT_EQ(format_duration(3723), "1:02:03");
  EXPECT_EQ(format_duration(-1), "-");
}

}  // namespace
}  // namespace espalier
