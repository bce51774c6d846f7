// Configs and arguments that are wrong: found before anything trains, within seconds, with the key,
// the value and what to do.

#include <chrono>
#include <filesystem>

#include "fault/command_test.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

class ConfigMistake : public CommandTest {
 protected:
  Result launch(std::vector<std::string> more, const std::string& config = tiny()) {
    std::vector<std::string> arguments = {"launch", config,  "-n",
                                          "2",      "--set", "run.directory=" + run()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return espalier(arguments);
  }
  Result set(const std::string& setting) { return launch({"--dry-run", "--set", setting}); }
  // tiny.toml with a text in the place of another.
  std::string tiny_with(const std::string& old, const std::string& text) {
    std::string config = read_file(tiny());
    const size_t at = config.find(old);
    EXPECT_NE(at, std::string::npos) << old;
    return folder_.write("config.toml", config.replace(at, old.size(), text));
  }
};

struct Mistake {
  std::string name, setting;
  std::vector<std::string> said;
};

class MistakenSetting : public ConfigMistake, public testing::WithParamInterface<Mistake> {};

TEST_P(MistakenSetting, IsRefusedByTheDryRunAndByTheLaunchBeforeAnythingTrains) {
  for (const bool is_dry : {true, false}) {
    const Result result = is_dry ? set(GetParam().setting) : launch({"--set", GetParam().setting});
    EXPECT_EQ(result.exit_code, 64) << (is_dry ? "dry run" : "launch");
    for (const std::string& part : GetParam().said) expect_said(result, part);
    EXPECT_EQ(result.output.find("bug"), std::string::npos) << result.output;
    EXPECT_EQ(trained_steps(run()), -1);
    EXPECT_EQ(newest_checkpoint(run()), -1);
  }
}

INSTANTIATE_TEST_SUITE_P(
    , MistakenSetting,
    testing::Values(
        Mistake{"ShapeOfASecondStage",
                "model.y.heads=3",
                {"model.y.heads = 3 does not divide", "width = 32", "2 or 4"}},
        Mistake{"KeysBesideHeads", "model.y.kv_heads=5", {"model.y.kv_heads = 5", "heads = 2"}},
        Mistake{
            "OddWidth", "model.y.width=33", {"model.y.heads = 2 does not divide", "width = 33"}},
        Mistake{"DepthTransformer",
                "model.y.depth_heads=5",
                {"model.y.depth_heads = 5", "depth_width = 32"}},
        Mistake{"SizeOfImages",
                "model.tokenizer.image_size=33",
                {"model.tokenizer.image_size = 33", "multiple of 8", "32 or 40"}},
        Mistake{"SizeOfMemory", "model.y.width=65536", {"model.y has at least", "GiB"}},
        Mistake{"EmptyDirectory", "run.directory=\"\"", {"run.directory is empty"}},
        Mistake{"LongDirectory",
                "run.directory=" + std::string(5000, 'd'),
                {"run.directory is too long", "5000 bytes"}},
        Mistake{"LongName",
                "run.directory=a/" + std::string(300, 'd') + "/b",
                {"run.directory is too long", "300 between slashes"}},
        Mistake{"ZeroByte",
                "run.directory=\"a\\u0000b\"",
                {"run.directory", "a byte that no text has"}},
        Mistake{"NoUtf8",
                "run.directory=a\xff"
                "b",
                {"run.directory", "a byte that no text has"}},
        Mistake{"NoTrainingData", "data.emoji.train=[]", {"data.emoji.train is empty"}},
        Mistake{
            "NaN", "stage.codes.optimizer.learning_rate=nan", {"learning_rate = nan is out of"}},
        Mistake{"Infinity", "stage.codes.optimizer.clip_norm=inf", {"clip_norm = inf is out of"}},
        Mistake{
            "WarmUpBeyondTheSteps",
            "stage.codes.optimizer.warmup_steps=161",
            {"stage.codes.optimizer.warmup_steps = 161", "more than the stage has steps (160)"}},
        Mistake{"NcclOnACpu",
                "compute.communicator=nccl",
                {"compute.communicator = \"nccl\" needs compute.device"}},
        Mistake{"NameUsedElsewhere",
                "stage.codes.lr=1e-3",
                {"did you mean stage.codes.optimizer.learning_rate?"}},
        Mistake{"NameUsedElsewhereInEveryStage",
                "lr=1e-3",
                {"did you mean stage.*.optimizer.learning_rate?"}}),
    [](const auto& mistake) { return mistake.param.name; });

TEST_F(ConfigMistake, WarmUpIsCutWhereTheCommandLineMakesAStageShorter) {
  EXPECT_EQ(set("stage.codes.steps=4").exit_code, 0);
}

TEST_F(ConfigMistake, KeysOfFiftyThousandPartsAreRefusedInEveryPlace) {
  std::string deep = "a";
  for (int i = 0; i < 50000; ++i) deep += ".a";
  for (const std::string& text :
       {deep + " = 1\n", "[" + deep + "]\n", "[[" + deep + "]]\n", "x = {" + deep + " = 1}\n"}) {
    const Result result = launch({"--dry-run"}, folder_.write("deep.toml", text));
    expect_refused(result, "deep.toml:1: a key of more than 32 parts");
  }
  expect_refused(set("seed={" + deep + "=1}"), "a key of more than 32 parts");
}

TEST_F(ConfigMistake, FilesThatAreNoConfigAreNamed) {
  expect_refused(launch({"--dry-run"}, folder_.file("")), "that is a folder");
  expect_refused(launch({"--dry-run"}, folder_.write("empty.toml", "")), "it is empty");
  expect_refused(launch({"--dry-run"}, folder_.write("long.toml", std::string(5 << 20, '#'))),
                 "more than 4 MiB");
  expect_refused(launch({"--dry-run"}, folder_.write("bytes.toml", "seed = \"\xff\"\n")),
                 "bytes.toml:1: not TOML");
}

TEST_F(ConfigMistake, ArgumentThatMpirunDoesNotKnowIsToldBeforeALaunch) {
  const Result result = launch({"--mpirun=--no-such-option"});
  expect_refused(result, "--mpirun: ");
  expect_said(result, "no-such-option");
  EXPECT_FALSE(fs::exists(run() + "/logs"));
}

TEST_F(ConfigMistake, ModelLargerThanTheMachineIsToldWithoutMakingIt) {
  const auto start = std::chrono::steady_clock::now();
  expect_refused(set("model.y.feed_forward_width=262144 --set model.y.trunk_layers=1000"),
                 "must be");
  expect_refused(launch({"--dry-run", "--set", "model.y.feed_forward_width=262144", "--set",
                         "model.y.trunk_layers=1000"}),
                 "model.y has at least");
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  EXPECT_LT(taken.count(), 60);
}

TEST_F(ConfigMistake, TokenThatOthersCanReadIsTheUsersToMend) {
  const std::vector<std::string> short_run = {"--set", "stage.codes.steps=1", "--set",
                                              "stage.both.steps=1"};
  ASSERT_EQ(launch(short_run).exit_code, 0);
  fs::permissions(run() + "/tokens/worker", fs::perms(0644));
  expect_refused(launch(short_run), "tokens/worker: can be read by others; chmod 600 it");
}

}  // namespace
}  // namespace espalier
