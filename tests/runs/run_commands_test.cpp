// What people do with runs after training, with the program itself: real runs of a few seconds.
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "data/test_files.h"
#include "fault/program.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Two runs that differ in one setting, trained once for all tests; both keep their checkpoints.
class Runs : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder();
    train("a", {});
    train("b", {"stage.both.optimizer.learning_rate=0.002"});
  }
  static void TearDownTestSuite() { delete folder_; }

  static std::string run(const std::string& name) { return folder_->file("runs/" + name); }

  static std::vector<std::string> with_sets(std::vector<std::string> arguments,
                                            const std::string& name,
                                            const std::vector<std::string>& sets) {
    std::vector<std::string> all = {"run.directory=\"" + run(name) + "\"", "stage.codes.steps=20",
                                    "stage.both.steps=20", "checkpoint.every_steps=10",
                                    "checkpoint.keep=10"};
    all.insert(all.end(), sets.begin(), sets.end());
    arguments.insert(arguments.begin() + 1, ESPALIER_SOURCE_DIR "/tests/fault/tiny.toml");
    for (const auto& set : all) arguments.insert(arguments.end(), {"--set", set});
    return arguments;
  }

  static void train(const std::string& name, const std::vector<std::string>& sets) {
    espalier(with_sets({"train"}, name, sets));
  }

  static std::string espalier(std::vector<std::string> arguments, int expected = 0) {
    arguments.insert(arguments.begin(), ESPALIER_PROGRAM);
    const std::string output = folder_->file("output-" + std::to_string(count_++));
    Program program(arguments, output);
    EXPECT_EQ(program.wait(300), expected) << program.output();
    return program.output();
  }

  static bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  }

  static TemporaryFolder* folder_;
  static int count_;
};

TemporaryFolder* Runs::folder_ = nullptr;
int Runs::count_ = 0;

TEST_F(Runs, DrawLeavesEarlierDrawingsAloneAndTakesTheCheckpointOfAStep) {
  const std::string out = folder_->file("drawings");
  const std::string said = espalier({"draw", "red apple", "--run", run("a"), "--out", out});
  EXPECT_TRUE(has(said, out + "/red-apple.png")) << said;
  const std::string first = read_file(out + "/red-apple.png");
  const std::string again =
      espalier({"draw", "red apple", "!!", "??", "--run", run("a"), "--step", "30", "--out", out});
  EXPECT_TRUE(has(again, "step-0000000030")) << again;
  for (const char* name : {"/red-apple-0002.png", "/drawing.png", "/drawing-0002.png"}) {
    EXPECT_TRUE(fs::exists(out + name)) << name;
  }
  EXPECT_EQ(read_file(out + "/red-apple.png"), first);
  EXPECT_TRUE(has(espalier({"draw", "x", "--run", run("a"), "--step", "31", "--out", out}, 64),
                  "those of steps 10, 20, 30, 40"));
  EXPECT_TRUE(has(espalier({"draw", "x", "--run", run("a"), "--best", "--out", out}, 64),
                  "no best checkpoint"));
  espalier({"draw", "x", "--run", run("a"), "--best", "--step", "30"}, 64);
}

TEST_F(Runs, ARerunWithOtherSettingsIsRefusedBeforeAnyRankStarts) {
  const auto other = with_sets({"launch"}, "a", {"stage.both.optimizer.learning_rate=0.5"});
  const std::string said = espalier(other, 64);
  EXPECT_TRUE(has(said, "stage.both.optimizer.learning_rate: was 0.001, is 0.5")) << said;
  EXPECT_TRUE(has(said, "--fork-from " + run("a") + "@40")) << said;
  EXPECT_FALSE(fs::exists(run("a") + "/logs/coordinator.log"));
  EXPECT_EQ(espalier(with_sets({"train"}, "a", {"stage.both.optimizer.learning_rate=0.5"}), 64)
                .find("report:"),
            std::string::npos);
}

TEST_F(Runs, ExtendsUnderTheCoordinatorAndForksIntoANewDirectory) {
  fs::copy(run("a"), run("longer"), fs::copy_options::recursive);
  espalier(with_sets({"launch", "--extend"}, "longer", {"stage.both.steps=30"}));
  const json longer = json::parse(read_file(run("longer") + "/run.json"));
  EXPECT_EQ(longer.at("state"), "finished");
  EXPECT_EQ(longer.at("step"), 50);
  espalier(with_sets({"launch", "--fork-from", run("a") + "@40"}, "fork",
                     {"stage.both.optimizer.learning_rate=0.002"}));
  const std::string history = read_file(run("fork") + "/history.jsonl");
  const json line = json::parse(history.substr(0, history.find('\n')));
  EXPECT_EQ(line.at("event"), "forked");
  EXPECT_EQ(line.at("parent").at("step"), 40);
  EXPECT_EQ(read_file(run("fork") + "/text-names.json"), read_file(run("a") + "/text-names.json"));
}

TEST_F(Runs, AreListedAndCompared) {
  const json list = json::parse(espalier({"runs", folder_->file("runs"), "--json"}));
  ASSERT_GE(list.size(), 2u);
  for (const json& one : list) {
    if (one.at("name") != "a") continue;
    EXPECT_EQ(one.at("state"), "finished");
    EXPECT_EQ(one.at("stage"), "both");
    EXPECT_EQ(one.at("step"), 40);
    EXPECT_TRUE(one.at("loss").is_number());
    EXPECT_TRUE(one.at("best").is_null());
  }
  EXPECT_TRUE(has(espalier({"runs", folder_->file("runs")}), "both"));

  const std::string page = folder_->file("compare.html");
  const std::string text = espalier({"compare", run("a"), run("b"), "--html", page});
  EXPECT_TRUE(has(text, "stage.both.optimizer.learning_rate")) << text;
  EXPECT_FALSE(has(text, "stage.codes.steps")) << text;
  const std::string html = read_file(page);
  for (const char* part : {"both: total", "series s1", "data:image/png", "learning_rate"}) {
    EXPECT_TRUE(has(html, part)) << part;
  }
  const json all = json::parse(espalier({"compare", run("a"), run("b"), "--json"}));
  ASSERT_EQ(all.at("settings").size(), 1u);
  EXPECT_EQ(all.at("settings")[0].at("values").at("b"), 0.002);
  EXPECT_FALSE(all.at("metrics").empty());
  EXPECT_TRUE(has(espalier({"compare", run("a"), "/nowhere"}, 64), "not a run directory"));
  espalier({"compare", run("a")}, 64);
}

TEST_F(Runs, AnExportSaysWhereItIsAndLeavesOtherFoldersAlone) {
  const std::string to = folder_->file("export");
  const std::string said = espalier({"checkpoint", "export", run("a"), "--to", to});
  EXPECT_TRUE(has(said, to + "/model.safetensors")) << said;
  espalier({"checkpoint", "export", run("b"), "--to", to}, 64);
  espalier({"checkpoint", "export", run("a"), "--to", to, "--max-shard-size", "4XB"}, 64);
  espalier({"checkpoint", "export", run("a"), "--to", to, "--averages"}, 64);
  espalier({"checkpoint", "export", run("a"), "--to", to, "--max-shard-size", "50KB"});
  EXPECT_FALSE(fs::exists(to + "/model.safetensors"));
  EXPECT_TRUE(fs::exists(to + "/model.safetensors.index.json"));
}

}  // namespace
}  // namespace espalier
