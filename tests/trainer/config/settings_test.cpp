#include "trainer/config/settings.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "toy_stage.h"
#include "trainer/config/run_config.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

constexpr const char* kMinimal = R"(seed = 3
[run]
directory = "runs/test"
[[stage]]
name = "tokenizer"
kind = "tokenizer"
steps = 40
[stage.optimizer]
learning_rate = 2e-3
warmup_steps = 10
)";

std::string write_config(const std::string& text) {
  const std::string directory = fresh_directory("config");
  std::filesystem::create_directories(directory);
  std::ofstream(directory + "/a.toml") << text;
  return directory + "/a.toml";
}

std::string message_of(const std::string& text, const std::vector<std::string>& sets = {}) {
  try {
    load_run_config(write_config(text), sets);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

void expect_in(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" is not in: " << text;
  }
}

TEST(RunConfig, FileThenArgumentsThenDefaults) {
  const RunConfig config = load_run_config(
      write_config(kMinimal), {"stage.tokenizer.steps=20", "run.directory=2026", "seed=9"});
  EXPECT_EQ(config.seed, 9);
  EXPECT_EQ(config.directory, "2026");
  ASSERT_EQ(config.stages.size(), 1u);
  EXPECT_EQ(config.stages[0].steps, 20);
  EXPECT_DOUBLE_EQ(config.stages[0].optimizer.learning_rate, 2e-3);
  EXPECT_DOUBLE_EQ(config.stages[0].optimizer.beta1, 0.9);
}

TEST(RunConfig, EveryStageIsAddressedByAStar) {
  const RunConfig config = load_run_config(write_config(kMinimal), {"stage.*.precision=bf16"});
  EXPECT_EQ(config.stages[0].precision, "bf16");
}

TEST(RunConfig, UnknownKeyIsAnsweredWithFileLineAndNearestKey) {
  expect_in(message_of(std::string(kMinimal) + "weight_decya = 0.1\n"),
            {"a.toml:11", "stage.tokenizer.optimizer.weight_decya",
             "did you mean stage.tokenizer.optimizer.weight_decay?"});
  expect_in(message_of("sed = 1\n"), {"a.toml:1", "did you mean seed?"});
}

TEST(RunConfig, UnknownKeyInAnArgumentIsAnsweredWithTheNearestKey) {
  expect_in(message_of(kMinimal, {"stage.tokeniser.steps=20"}),
            {"--set stage.tokeniser.steps", "did you mean stage.tokenizer.steps?"});
  expect_in(message_of(kMinimal, {"optimizer.learning_rate=1"}),
            {"did you mean stage.tokenizer.optimizer.learning_rate?"});
  expect_in(message_of(kMinimal, {"steps"}), {"expected key=value"});
}

TEST(RunConfig, WrongTypeSaysWhichIsRight) {
  expect_in(message_of("seed = \"one\"\n"), {"a.toml:1", "seed must be integer", "\"one\""});
  expect_in(message_of(kMinimal, {"stage.tokenizer.steps=1.5"}), {"must be integer, got 1.5"});
  expect_in(message_of("data = 3\n"), {"a.toml:1", "data"});
}

TEST(RunConfig, OutOfRangeSaysTheRange) {
  expect_in(message_of(kMinimal, {"stage.tokenizer.optimizer.beta1=1.5"}),
            {"= 1.5 is out of range: 0.0 to 0.9999"});
  expect_in(message_of("seed = -1\n"), {"a.toml:1", "is out of range"});
  expect_in(message_of(kMinimal, {"compute.device=gpu"}), {"one of auto, cpu, cuda"});
  expect_in(message_of(kMinimal, {"stage.tokenizer.optimizer.learning_rate=nan"}),
            {"is out of range"});
}

TEST(RunConfig, FileThatIsNotTomlIsNamedWithItsLine) {
  expect_in(message_of("seed = 1\nrun = [\n"), {"a.toml:", "not TOML"});
  EXPECT_THROW(load_run_config("/nowhere/at/all.toml"), ConfigError);
}

TEST(RunConfig, StagesAreChecked) {
  expect_in(message_of("seed = 1\n"), {"nothing to train"});
  expect_in(message_of("[[stage]]\nname = \"a\"\nkind = \"b\"\n"), {"a.toml:3", "got \"b\""});
  expect_in(message_of("[[stage]]\nname = \"a\"\nkind = \"unified\"\n"), {"kind tokenizer before"});
  expect_in(message_of("[stage]\nname = \"a\"\n"), {"[[stage]]"});
}

TEST(RunConfig, ResolvedFileReadsBackTheSameAndTellsOrigins) {
  const RunConfig config = load_run_config(write_config(kMinimal), {"seed=9"});
  expect_in(config.resolved, {"seed = 9  # --set", "a.toml:7", "# default"});
  const RunConfig again = load_run_config(write_config(config.resolved));
  EXPECT_EQ(again.values, config.values);
}

TEST(RunConfig, BatchThatDoesNotDivideNamesTheNearestSizes) {
  const RunConfig config =
      load_run_config(write_config(kMinimal),
                      {"stage.tokenizer.batch_size=100", "stage.tokenizer.micro_batch_size=8"});
  try {
    validate_for_world(config, 3);
    FAIL() << "100 was accepted for 3 ranks of 8";
  } catch (const ConfigError& error) {
    expect_in(error.what(), {"stage.tokenizer.batch_size = 100", "8 x 3", "96 or 120"});
  }
}

TEST(ExplainConfig, TellsOneSettingATableOrTheNearestKey) {
  expect_in(explain_config("stage.tokenizer.steps"), {"steps = 1000", "integer, 1 to 1000000000"});
  expect_in(explain_config("checkpoint"), {"checkpoint.keep", "checkpoint.resume"});
  EXPECT_THROW(explain_config("chekpoint.keep"), ConfigError);
}

TEST(ExplainConfig, CommittedReferencePageIsCurrent) {
  std::ifstream file(std::string(ESPALIER_SOURCE_DIR) + "/docs/configuration.md");
  const std::string page((std::istreambuf_iterator<char>(file)), {});
  EXPECT_TRUE(page == generate_config_reference())
      << "run: espalier config explain --markdown > docs/configuration.md";
}

TEST(ExplainConfig, EverySettingHasHelpAndABoundedDefault) {
  RunConfig config = toy_config("unused", 1);
  const Settings settings = declare_settings(config);
  for (const Setting& setting : settings.all()) {
    EXPECT_FALSE(setting.spec.help.empty()) << setting.key;
    if (!setting.default_value.is_number()) continue;
    EXPECT_GE(setting.default_value.get<double>(), setting.spec.min) << setting.key;
    EXPECT_LE(setting.default_value.get<double>(), setting.spec.max) << setting.key;
  }
}

}  // namespace
}  // namespace espalier
