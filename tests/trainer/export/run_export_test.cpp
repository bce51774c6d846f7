// The weights of a run as files that other libraries read.
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include "refusal.h"
#include "small_disk.h"
#include "toy_room.h"
#include "trainer/export/run_export.h"
#include "trainer/export/weight_shards.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json read_json(const std::string& path) {
  std::ifstream file(path);
  return json::parse(file);
}

int entries_of(const fs::path& folder) {
  return static_cast<int>(std::distance(fs::directory_iterator(folder), {}));
}

// A run that was stopped in its second stage, which keeps averages.
class RunExport : public testing::Test {
 protected:
  void SetUp() override {
    const RunConfig config = toy_config(fresh_directory("run"), 6);
    train_toy(config, 1, 8);
    run_ = config.directory;
    saved_ = newest_tensors(run_);
  }
  ExportRequest request(WeightChoice weights = WeightChoice::kAveragesIfAny) const {
    return {.run = run_, .weights = weights, .to = to_, .commit = "abc"};
  }
  TensorMap exported() const { return read_safetensors(to_ + "/model.safetensors"); }

  std::string run_, to_ = fresh_directory("exports") + "/one/";
  TensorMap saved_;
};

TEST_F(RunExport, HasTheAveragesOfTheStageUnderWayAndTheModelsOfTheStagesBefore) {
  const ExportResult result = export_run(request());
  EXPECT_EQ(result.files, (std::vector<std::string>{"model.safetensors", "config.json"}));
  const TensorMap tensors = exported();
  EXPECT_TRUE(tensors.at("one.trunk.weight").equal(saved_.at("model/one/trunk.weight")));
  EXPECT_TRUE(tensors.at("two.trunk.weight")
                  .equal(saved_.at("training/second/average/model/two/trunk.weight")));
  EXPECT_FALSE(tensors.at("two.trunk.weight").equal(saved_.at("model/two/trunk.weight")));
  EXPECT_EQ(static_cast<int64_t>(tensors.size()), result.tensors);
  EXPECT_EQ(read_safetensors_metadata(to_ + "/model.safetensors").at("format"), "pt");
}

TEST_F(RunExport, SaysInItsConfigWhatTheWeightsAreOf) {
  export_run(request());
  const json config = read_json(to_ + "/config.json");
  EXPECT_EQ(config.at("format"), "espalier-export-1");
  EXPECT_EQ(config.at("run"), "run");
  EXPECT_EQ(config.at("step"), 8);
  EXPECT_EQ(config.at("stage"), "second");
  EXPECT_EQ(config.at("stage_step"), 2);
  EXPECT_EQ(config.at("weights"), "averages");
  EXPECT_EQ(config.at("commit"), "abc");
  EXPECT_EQ(config.at("models").at("one").at("kind"), "toy");
  EXPECT_EQ(config.at("models").size(), 2u);
  EXPECT_FALSE(config.contains("model_type")) << "no decoder";
  EXPECT_EQ(config.at("settings").at("stage.second.trains"), "two");
}

TEST_F(RunExport, GivesTheRawWeightsWhereTheyAreAskedFor) {
  export_run(request(WeightChoice::kRaw));
  EXPECT_TRUE(exported().at("two.trunk.weight").equal(saved_.at("model/two/trunk.weight")));
  EXPECT_EQ(read_json(to_ + "/config.json").at("weights"), "raw");
}

TEST_F(RunExport, RefusesRawWeightsOfAFinishedStageThatKeptItsAveragesAlone) {
  train_toy(toy_config(run_, 6), 1);  // to its end
  const std::string said = refusal([&] { export_run(request(WeightChoice::kRaw)); });
  EXPECT_NE(said.find("leave --raw out"), std::string::npos) << said;
  export_run(request(WeightChoice::kAverages));
  EXPECT_EQ(read_json(to_ + "/config.json").at("weights"), "averages");
}

TEST_F(RunExport, CutsIntoShardsWithAnIndex) {
  ExportRequest small = request();
  small.max_shard_bytes = 200;
  export_run(small);
  const json index = read_json(to_ + "/model.safetensors.index.json");
  TensorMap all;
  int64_t bytes = 0;
  for (const auto& [name, file] : index.at("weight_map").items()) {
    const TensorMap shard = read_safetensors(to_ + "/" + file.get<std::string>());
    ASSERT_TRUE(shard.contains(name));
    EXPECT_TRUE(shard.size() == 1 || bytes_of(shard) <= 200) << file;
    all[name] = shard.at(name);
    bytes += static_cast<int64_t>(all[name].nbytes());
  }
  EXPECT_EQ(index.at("metadata").at("total_size"), bytes);
  EXPECT_TRUE(fs::exists(to_ + "/model-00001-of-0000" + std::to_string(entries_of(to_) - 2) +
                         ".safetensors"));
  // In one file again: what the shards were in is gone.
  export_run(request());
  EXPECT_EQ(first_difference(exported(), all), "");
  EXPECT_EQ(entries_of(to_), 2);
  EXPECT_EQ(entries_of(fs::path(to_).parent_path().parent_path()), 1) << "left-overs";
}

TEST_F(RunExport, LeavesFoldersAloneThatAreNotAnExportOfTheSameRun) {
  fs::create_directories(to_);
  EXPECT_EQ(refusal([&] { export_run(request()); }), "");  // an empty one is fine
  std::ofstream(to_ + "README.md") << "mine";
  EXPECT_NE(refusal([&] { export_run(request()); }).find("README.md"), std::string::npos);
  fs::remove(to_ + "README.md");
  json config = read_json(to_ + "/config.json");
  config["run"] = "other";
  std::ofstream(to_ + "config.json") << config;
  EXPECT_NE(refusal([&] { export_run(request()); }).find("another run (other)"), std::string::npos);
  fs::remove(to_ + "config.json");
  EXPECT_NE(refusal([&] { export_run(request()); }).find("holds no export"), std::string::npos);
}

TEST_F(RunExport, NamesTheStepsThereAreWhenAnotherIsAskedFor) {
  ExportRequest of_step = request();
  of_step.checkpoint.step = 7;
  EXPECT_NE(refusal([&] { export_run(of_step); }).find("those of steps 6, 8"), std::string::npos);
  of_step.checkpoint.step = 6;
  export_run(of_step);
  EXPECT_EQ(read_json(to_ + "/config.json").at("stage"), "first");
  EXPECT_FALSE(exported().contains("two.trunk.weight"));
  of_step.checkpoint = {.is_best = true};
  EXPECT_NE(refusal([&] { export_run(of_step); }).find("no best checkpoint"), std::string::npos);
}

TEST_F(RunExport, OnAFullDiskLeavesTheExportThatIsThere) {
  const bool mounted = on_small_disk(1 << 20, [&](const std::string& directory) {
    to_ = directory + "/export";
    export_run(request());
    const TensorMap before = exported();
    const DiskFiller full(directory);
    EXPECT_THROW(export_run(request(WeightChoice::kRaw)), StorageError);
    EXPECT_EQ(first_difference(exported(), before), "");
    for (const auto& entry : fs::directory_iterator(directory)) {
      EXPECT_EQ(entry.path().string().find(".tmp-"), std::string::npos) << entry.path();
    }
  });
  if (!mounted) GTEST_SKIP() << "this process may not mount a disk of its own";
}

TEST(SizeOfAShard, IsReadAsHuggingFaceWritesIt) {
  EXPECT_EQ(parse_size("4GB", "--max-shard-size"), 4'000'000'000);
  EXPECT_EQ(parse_size("1.5 MiB", "--max-shard-size"), 3 << 19);
  EXPECT_EQ(parse_size("500", "--max-shard-size"), 500);
  for (const char* wrong : {"", "GB", "4XB", "0", "-1GB", "nan", "1e300GB"}) {
    EXPECT_THROW(parse_size(wrong, "--max-shard-size"), ConfigError) << wrong;
  }
}

}  // namespace
}  // namespace espalier
