// The program itself on input that is wrong: a clear message, the documented exit code, nothing
// lost.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "fault/command_test.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

class BadInput : public CommandTest {
 protected:
  Result train(std::vector<std::string> more) {
    std::vector<std::string> arguments = {"train", tiny(), "--set", "run.directory=" + run()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return espalier(arguments);
  }
  // A short run that leaves a checkpoint.
  void train_briefly() {
    const Result result = train({"--set", "stage.codes.steps=2", "--set", "stage.both.steps=1",
                                 "--set", "log.tensorboard=false"});
    ASSERT_EQ(result.exit_code, 0) << result.output;
  }
  // `data` as the training set, in a shard of its own.
  std::vector<std::string> with_shard(const std::string& tar) {
    return {"--set", "data.emoji.train=[\"" + folder_.write("shard.tar", tar) + "\"]"};
  }
};

std::string good_png() {
  const std::string tar = read_file(source_path("data/emoji/emoji-32-test.tar"));
  const size_t start = tar.find("\x89PNG");
  const size_t end = tar.find("IEND", start);
  return tar.substr(start, end + 8 - start);
}

std::string sample(const std::string& key, const std::string& png) {
  return tar_member(key + ".png", png) +
         tar_member(key + ".json", R"({"caption":"x","group":"g","keywords":["k"]})");
}

TEST_F(BadInput, UnknownKeyIsAnsweredWithTheNearestOne) {
  expect_refused(train({"--set", "stage.codes.stpes=3"}), "stage.codes.steps");
}

TEST_F(BadInput, UnknownKeyInTheFileIsNamedWithItsLine) {
  const std::string config =
      folder_.write("typo.toml", read_file(tiny()) + "\n[evaluation]\nevery_stps = 1\n");
  const Result result = espalier({"train", config});
  expect_refused(result, "typo.toml:");
  EXPECT_NE(result.output.find("evaluation.every_steps"), std::string::npos) << result.output;
}

TEST_F(BadInput, WrongTypeIsNamed) {
  expect_refused(train({"--set", "seed=\"seven\""}), "seed must be integer");
}

TEST_F(BadInput, ValueOutOfRangeIsAnsweredWithTheRange) {
  expect_refused(train({"--set", "stage.codes.optimizer.beta1=2"}), "beta1 = 2");
}

TEST_F(BadInput, MissingDataFileIsNamed) {
  expect_refused(train({"--set", "data.emoji.train=[\"no/such.tar\"]"}), "no/such.tar");
}

TEST_F(BadInput, TruncatedTarIsNamed) {
  const std::string tar = sample("00000", good_png()) + sample("00001", good_png());
  expect_refused(train(with_shard(tar.substr(0, tar.size() - 700))), "shard.tar");
}

TEST_F(BadInput, BrokenPngIsNamed) {
  const std::string tar = sample("00000", good_png()) + sample("00001", "no picture") + tar_end();
  expect_refused(train(with_shard(tar)), "00001.png");
}

TEST_F(BadInput, BrokenPngIsSkippedAndCountedWhereAllowed) {
  const std::string tar = sample("00000", good_png()) + sample("00001", "no picture") + tar_end();
  const Result result =
      espalier({"data", "inspect", folder_.write("shard.tar", tar), "--skip-bad"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_NE(result.output.find("1 bad samples"), std::string::npos) << result.output;
  EXPECT_NE(result.output.find("00001.png"), std::string::npos) << result.output;
}

TEST_F(BadInput, ShardWithoutSamplesIsNamed) {
  expect_refused(train(with_shard(tar_end())), "shard.tar");
}

TEST_F(BadInput, BatchThatDoesNotDivideIsAnsweredWithSizesThatDo) {
  expect_refused(train({"--set", "stage.codes.batch_size=13"}), "batch_size");
}

TEST_F(BadInput, BatchThatDoesNotDivideOverTheRanksIsRefusedBeforeTheLaunch) {
  const Result result = espalier({"launch", tiny(), "-n", "4", "--set", "run.directory=" + run()});
  expect_refused(result, "batch_size");
  EXPECT_FALSE(fs::exists(run() + "/logs/generation-0001"));
}

TEST_F(BadInput, CheckpointOfAnotherModelIsRefusedWithItsTensorsAndKept) {
  train_briefly();
  const int64_t step = newest_checkpoint(run());
  const Result result = train({"--set", "stage.codes.steps=2", "--set", "stage.both.steps=1",
                               "--set", "model.tokenizer.width=32"});
  expect_refused(result, "tokenizer");
  EXPECT_EQ(newest_checkpoint(run()), step);
}

TEST_F(BadInput, RunDirectoryThatCannotBeMadeIsNamed) {
  const std::string file = folder_.write("file", "in the way");
  expect_refused(train({"--set", "run.directory=" + file + "/run"}), file);
}

TEST_F(BadInput, ResumePathThatDoesNotExistIsNamed) {
  expect_refused(train({"--resume", folder_.file("nowhere")}), "nowhere");
}

TEST_F(BadInput, MissingTeacherWeightsAreNamed) {
  const Result result =
      espalier({"train", source_path("configs/quickstart.toml"), "--set", "run.directory=" + run(),
                "--set", "teacher.lite0.weights=" + folder_.file("none.safetensors")});
  expect_refused(result, "none.safetensors");
}

TEST_F(BadInput, ReportOfAFolderThatIsNotARunIsRefused) {
  expect_refused(espalier({"report", folder_.file("nothing")}), "not a run directory");
}

TEST_F(BadInput, StatusOfAFolderThatIsNotARunIsRefused) {
  expect_refused(espalier({"status", folder_.file("nothing")}), "no coordinator");
}

TEST_F(BadInput, UnknownKindOfObjectiveIsAnsweredWithTheKnownOnes) {
  std::string text = read_file(tiny());
  const size_t at = text.find("kind = \"caption\"");
  text.replace(at, 16, "kind = \"captions\"");
  const Result result = espalier({"train", folder_.write("kind.toml", text)});
  expect_refused(result, "no kind \"captions\"");
  EXPECT_NE(result.output.find("kind.toml:"), std::string::npos) << result.output;
}

TEST_F(BadInput, StageThatTheRunDoesNotHaveIsAnsweredWithThoseItHas) {
  train_briefly();
  expect_refused(espalier({"evaluate", run(), "--stage", "both_of_them"}), "it has codes, both");
}

TEST(ReferencePage, IsWhatTheProgramSaysOfItsSettings) {
  const TemporaryFolder folder;
  Program program({ESPALIER_PROGRAM, "config", "explain", "--markdown"}, folder.file("page"));
  ASSERT_EQ(program.wait(60), 0);
  EXPECT_TRUE(program.output() == read_file(source_path("docs/configuration.md")))
      << "run: espalier config explain --markdown > docs/configuration.md";
}

TEST_F(BadInput, MissingCommandEndsWithExit64) { EXPECT_EQ(espalier({}).exit_code, 64); }

TEST_F(BadInput, UnknownOptionEndsWithExit64) { EXPECT_EQ(train({"--bogus"}).exit_code, 64); }

TEST_F(BadInput, DryRunChecksAndTrainsNothing) {
  const Result result = train({"--dry-run"});
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_NE(result.output.find("tokenizer"), std::string::npos) << result.output;
  EXPECT_EQ(newest_checkpoint(run()), -1);
}

TEST_F(BadInput, VersionDoctorAndExplainSucceed) {
  EXPECT_EQ(espalier({"--version"}).exit_code, 0);
  const Result doctor = espalier({"doctor"});
  EXPECT_EQ(doctor.exit_code, 0);
  EXPECT_NE(doctor.output.find("libtorch"), std::string::npos);
  const Result explain = espalier({"config", "explain", "checkpoint.every_steps"});
  EXPECT_EQ(explain.exit_code, 0);
  EXPECT_NE(explain.output.find("Steps between checkpoints"), std::string::npos);
}

TEST_F(BadInput, TrainedRunCanBeEvaluatedAskedAndReported) {
  train_briefly();
  const Result evaluate = espalier({"evaluate", run(), "--json", folder_.file("numbers.json")});
  EXPECT_EQ(evaluate.exit_code, 0) << evaluate.output;
  EXPECT_NE(read_file(folder_.file("numbers.json")).find("psnr_db"), std::string::npos);
  const std::string image = folder_.write("image.png", good_png());
  const Result caption = espalier({"caption", image, "--run", run()});
  EXPECT_EQ(caption.exit_code, 0) << caption.output;
  EXPECT_NE(caption.output.find("image.png\t"), std::string::npos) << caption.output;
  const Result draw =
      espalier({"draw", "Red apple!", "--run", run(), "--out", folder_.file("drawn")});
  EXPECT_EQ(draw.exit_code, 0) << draw.output;
  EXPECT_TRUE(fs::exists(folder_.file("drawn") + "/red-apple.png"));
  EXPECT_EQ(espalier({"report", run()}).exit_code, 0);
  EXPECT_TRUE(fs::exists(run() + "/report.json"));
}

}  // namespace
}  // namespace espalier
