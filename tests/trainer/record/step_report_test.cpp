#include "trainer/record/step_report.h"

#include <limits>

#include <gtest/gtest.h>

namespace espalier {
namespace {

TEST(StepReport, ComesBackFromItsJson) {
  StepReport report;
  report.stage = "tokenizer";
  report.step = 50;
  report.total_steps = 200;
  report.losses = {{"pixel", 0.5}};
  report.skipped = true;
  report.time_s = {{"reduce", 0.25}};
  report.tokens_per_s = 2e6;
  report.tokens_per_step = {{"caption", 100}, {"draw", 300}};
  report.device_memory_bytes = int64_t{80} << 30;
  const StepReport back = step_report_from_json(nlohmann::json::parse(to_json(report).dump()));
  EXPECT_EQ(back.stage, "tokenizer");
  EXPECT_EQ(back.step, 50);
  EXPECT_EQ(back.total_steps, 200);
  EXPECT_EQ(back.losses, report.losses);
  EXPECT_TRUE(back.skipped);
  EXPECT_EQ(back.time_s, report.time_s);
  EXPECT_EQ(back.tokens_per_s, report.tokens_per_s);
  EXPECT_EQ(back.tokens_per_step, report.tokens_per_step);
  EXPECT_EQ(back.device_memory_bytes, report.device_memory_bytes);
}

TEST(StepReport, KeepsDefaultsForFieldsThatAreMistyped) {
  const StepReport report = step_report_from_json(
      {{"stage", 3}, {"step", "x"}, {"losses", {{"a", nullptr}}}, {"total_loss", nullptr}});
  EXPECT_EQ(report.stage, "");
  EXPECT_EQ(report.step, 0);
  EXPECT_TRUE(report.losses.empty());
}

TEST(StepReport, WritesALossThatIsNotFiniteAsNull) {
  StepReport report;
  report.total_loss = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(nlohmann::json::parse(to_json(report).dump()).at("total_loss").is_null());
}

}  // namespace
}  // namespace espalier
