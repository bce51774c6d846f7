#include "trainer/config/settings.h"

#include <fstream>

#include <gtest/gtest.h>

#include "real_things.h"
#include "toy_room.h"
#include "trainer/config/config_text.h"
#include "trainer/config/run_config.h"
#include "trainer/errors.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

constexpr const char* kMinimal = R"(seed = 3
[run]
directory = "runs/test"
[model.one]
kind = "toy"
[[stage]]
name = "codes"
trains = "one"
steps = 40
[[stage.objectives]]
kind = "toy_regression"
[stage.optimizer]
learning_rate = 2e-3
warmup_steps = 10
)";

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
      write_config(kMinimal), {"stage.codes.steps=20", "run.directory=2026", "seed=9"});
  EXPECT_EQ(config.seed, 9);
  EXPECT_EQ(config.directory, "2026");
  ASSERT_EQ(config.stages.size(), 1u);
  EXPECT_EQ(config.stages[0].steps, 20);
  EXPECT_DOUBLE_EQ(config.stages[0].optimizer.learning_rate, 2e-3);
  EXPECT_DOUBLE_EQ(config.stages[0].optimizer.beta1, 0.9);
}

TEST(RunConfig, AStarStandsForAnyName) {
  const RunConfig config = load_run_config(write_config(kMinimal), {"stage.*.precision=bf16"});
  EXPECT_EQ(config.stages[0].precision, "bf16");
  const RunConfig toys = toy_config(fresh_directory("run"), 3, {},
                                    {"model.*.width=3", "stage.*.objectives.*.weight=2"});
  EXPECT_EQ(toys.values.at("model.two.width"), 3);
  EXPECT_EQ(toys.values.at("stage.second.objectives.right.weight"), 2);
}

TEST(RunConfig, OneTextIsAListOfOne) {
  const RunConfig config = small_config(fresh_directory("run"));
  EXPECT_EQ(config.data[0].train.size(), 1U);
}

TEST(RunConfig, UnknownKeyIsAnsweredWithFileLineAndNearestKey) {
  expect_in(message_of(std::string(kMinimal) + "weight_decya = 0.1\n"),
            {"a.toml:15", "stage.codes.optimizer.weight_decya",
             "did you mean stage.codes.optimizer.weight_decay?"});
  expect_in(message_of("sed = 1\n"), {"a.toml:1", "did you mean seed?"});
}

TEST(RunConfig, UnknownKeyInAnArgumentIsAnsweredWithTheNearestKey) {
  expect_in(message_of(kMinimal, {"stage.cods.steps=20"}),
            {"--set stage.cods.steps", "did you mean stage.codes.steps?"});
  expect_in(message_of(kMinimal, {"optimizer.learning_rate=1"}),
            {"did you mean stage.codes.optimizer.learning_rate?"});
  expect_in(message_of(kMinimal, {"steps"}), {"expected key=value"});
}

TEST(RunConfig, WrongTypeSaysWhichIsRight) {
  expect_in(message_of("seed = \"one\"\n"), {"a.toml:1", "seed must be integer", "\"one\""});
  expect_in(message_of(kMinimal, {"stage.codes.steps=1.5"}), {"must be integer, got 1.5"});
}

TEST(RunConfig, OutOfRangeSaysTheRange) {
  expect_in(message_of(kMinimal, {"stage.codes.optimizer.beta1=1.5"}),
            {"= 1.5 is out of range: 0.0 to 0.9999"});
  expect_in(message_of("seed = -1\n"), {"a.toml:1", "is out of range"});
  expect_in(message_of(kMinimal, {"compute.device=gpu"}), {"one of auto, cpu, cuda"});
  expect_in(message_of(kMinimal, {"stage.codes.optimizer.learning_rate=nan"}), {"is out of range"});
}

TEST(RunConfig, FileThatIsNotTomlIsNamedWithItsLine) {
  expect_in(message_of("seed = 1\nrun = [\n"), {"a.toml:", "not TOML"});
  EXPECT_THROW(load_run_config("/nowhere/at/all.toml"), ConfigError);
}

TEST(RunConfig, StagesAreChecked) {
  expect_in(message_of("seed = 1\n"), {"nothing to train"});
  expect_in(message_of("[stage]\nname = \"a\"\n"), {"[[stage]]"});
  expect_in(message_of("[[stage]]\nname = \"a\"\ntrains = \"b\"\n"),
            {"stage.a.trains = \"b\"", "no [model.b]", "none is declared"});
  expect_in(message_of("[model.b]\nkind = \"toy\"\n[[stage]]\nname = \"a\"\ntrains = \"b\"\n"),
            {"stage.a: no objectives", "toy_regression"});
}

TEST(RunConfig, UnknownKindsAreErrorsThatNameTheKnownOnes) {
  expect_in(message_of("[model.b]\nkind = \"tokenizer\"\n"),
            {"a.toml:1", "no kind \"tokenizer\"", "residual_image_tokenizer, y_decoder"});
  expect_in(message_of("[model.b]\nwidth = 3\n"), {"a.toml:1", "a kind is missing"});
  expect_in(message_of(std::string(kMinimal) + "[[stage.objectives]]\nkind = \"drawing\"\n"),
            {"a.toml:15", "no kind \"drawing\"", "caption, answer, draw"});
}

TEST(RunConfig, ThingsWithoutANameSayHowTheyAreNamed) {
  expect_in(message_of("[data]\ntrain = \"a.tar\"\n"), {"a.toml:2", "data.train", "[data.NAME]"});
  expect_in(message_of("model = 3\n"), {"a.toml:1", "[model.NAME]"});
}

TEST(RunConfig, TwoObjectivesOfOneKindNeedNames) {
  const std::string second = "[[stage.objectives]]\nkind = \"toy_regression\"\n";
  expect_in(message_of(kMinimal + second), {"a.toml:15", "two objectives called toy_regression"});
  EXPECT_EQ(message_of(kMinimal + second + "name = \"other\"\n"), "no error");
}

TEST(RunConfig, AnObjectiveForAnotherKindOfModelIsRefused) {
  std::string text = small_toml(fresh_directory("run"));
  text.replace(text.find("trains = \"y\""), 12, "trains = \"tokenizer\"");
  expect_in(message_of(text), {"stage.both.objectives.caption", "a model of kind y_decoder",
                               "is of kind residual_image_tokenizer"});
}

TEST(RunConfig, NamesOfThingsThatAreNotThereAreAnsweredWithThoseThatAre) {
  const std::string text = small_toml(fresh_directory("run"));
  expect_in(message_of(text, {"stage.codes.objectives.masked_patches.data=emojis"}),
            {"stage.codes.objectives.masked_patches.data = \"emojis\"", "declared: emoji"});
  expect_in(message_of(text, {"stage.codes.objectives.residual_evolution.teacher=clip"}),
            {"teacher = \"clip\"", "none is declared"});
  expect_in(message_of(text, {"model.y.text=word"}), {"model.y.text = \"word\"", "names"});
  expect_in(message_of(text, {"model.y.kv_heads=3"}), {"model.y.kv_heads = 3 does not divide"});
}

TEST(RunConfig, ResolvedFileReadsBackTheSameAndTellsOrigins) {
  const RunConfig config = load_run_config(write_config(kMinimal), {"seed=9"});
  expect_in(config.resolved, {"seed = 9  # --set", "a.toml:9", "# default"});
  const RunConfig again = load_run_config(write_config(config.resolved));
  EXPECT_EQ(again.values, config.values);
  const RunConfig small = small_config(fresh_directory("run"));
  EXPECT_EQ(load_run_config(write_config(small.resolved)).values, small.values);
}

TEST(RunConfig, BatchThatDoesNotDivideNamesTheNearestSizes) {
  const RunConfig config = load_run_config(
      write_config(kMinimal), {"stage.codes.batch_size=100", "stage.codes.micro_batch_size=8"});
  try {
    validate_for_world(config, 3);
    FAIL() << "100 was accepted for 3 ranks of 8";
  } catch (const ConfigError& error) {
    expect_in(error.what(), {"stage.codes.batch_size = 100", "8 x 3", "96 or 120"});
  }
}

TEST(ExplainConfig, TellsOneSettingATableOrTheNearestKey) {
  expect_in(explain_config("stage.codes.steps"), {"steps = 1000", "integer, 1 to 1000000000"});
  expect_in(explain_config("checkpoint"), {"checkpoint.keep", "checkpoint.resume"});
  expect_in(explain_config("model.y.trunk_layers"), {"model.y_decoder.trunk_layers = 4"});
  expect_in(explain_config("stage.both.objectives.draw.guidance"), {"Classifier-free guidance"});
  EXPECT_THROW(explain_config("chekpoint.keep"), ConfigError);
}

TEST(ExplainConfig, KnowsWhatARoomOfTheTestsDeclares) {
  expect_in(explain_config("stage.NAME.objectives.toy_regression"), {"Branch of the toy."});
  expect_in(config_reference(),
            {"of kind `toy_regression`, for models of kind `toy`", "Regression of a sine."});
}

TEST(ExplainConfig, EverySettingHasHelpAndABoundedDefault) {
  RunConfig config = example_config();
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
