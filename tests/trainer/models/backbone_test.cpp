// A Y-shaped decoder that leaves as an ordinary decoder, and begins as one.
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include "comm/transport/single_communicator.h"
#include "models/errors.h"
#include "real_things.h"
#include "refusal.h"
#include "tests/trainer/forward/model_folder.h"
#include "toy_room.h"
#include "trainer/export/decoder_export.h"
#include "trainer/inference.h"
#include "trainer/models/y_decoder.h"
#include "trainer/named/named_things.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

// Trained once for all tests: a few steps are enough for weights that nobody would guess.
class Backbone : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!run_.empty()) return;
    run_ = fresh_directory("run");
    folder_ = fresh_directory("exports") + "/decoder";
    train_toy(small_config(run_, {"data.emoji.validation=[]", "data.emoji.test=[]"}), 1);
    export_decoder({.run = run_, .to = folder_}, "understanding");
  }

  RunConfig config_with(const std::vector<std::string>& more) const {
    std::vector<std::string> sets = {"model.y.backbone=" + folder_};
    sets.insert(sets.end(), more.begin(), more.end());
    // Sizes come from the backbone.
    std::string text = small_toml(fresh_directory("other"));
    for (const char* line : {"width = 32\nheads = 2\nkv_heads = 2\nfeed_forward_width = 48\n"
                             "trunk_layers = 1\n",
                             "layers = 1\nhead", "[model.y.branch.understanding]\nlayers = 1"}) {
      const std::string whole = line;
      const size_t at = text.find(whole);
      const std::string kept = whole.ends_with("head")  ? "head"
                               : whole.starts_with("[") ? "[model.y.branch.understanding]"
                                                        : "";
      text.replace(at, whole.size(), kept);
    }
    return load_run_config(write_config(text), sets);
  }

  static at::Tensor parameter(YDecoder& y, const std::string& name) {
    return y.module()->named_parameters()[name].detach();
  }

  static std::string run_, folder_;
};
std::string Backbone::run_, Backbone::folder_;

TEST_F(Backbone, AnExportedBranchComputesWhatItComputesInTheRun) {
  InferenceRun run = load_for_inference({.run = run_});
  auto& y = run.things->model_as<YDecoder>("y", "a test");
  const std::vector<int64_t> ids = y.encode("a red apple");
  const auto count = std::ssize(ids);
  TokenRows rows;
  rows.text_ids = torch::tensor(ids, at::kLong);
  rows.sources = at::arange(kFirstText, kFirstText + count, at::kLong);
  rows.mask = AttentionMask::from_lengths({count});
  const torch::NoGradGuard no_grad;
  const int64_t branch = y.module()->branch_index("understanding");
  const at::Tensor expected = y.module()->text_logits(y.module()->hidden(rows, branch), branch);
  ForwardRequest request = forward_request(folder_);
  request.inputs["input_ids"] = rows.text_ids.unsqueeze(0);
  EXPECT_TRUE(torch::equal(run_forward(request).at("logits")[0], expected));
  EXPECT_TRUE(fs::exists(folder_ + "/tokenizer.json"));
}

TEST_F(Backbone, FillsTheTrunkAndEveryBranchFromTheForkUp) {
  const auto comm = make_single_communicator();
  const RunConfig config = config_with({"model.y.trunk_layers=1"});
  NamedThings things(config, *comm, at::kCPU);
  auto& y = things.model_as<YDecoder>("y", "a test");
  const TensorMap weights = read_safetensors(folder_ + "/model.safetensors");
  const auto q = [&](int layer) {
    return weights.at("model.layers." + std::to_string(layer) + ".self_attn.q_proj.weight");
  };
  EXPECT_TRUE(parameter(y, "trunk.0.query_key_value.weight").narrow(0, 0, 32).equal(q(0)));
  for (const char* branch : {"understanding", "generation"}) {
    const std::string prefix = std::string("branch.") + branch + ".";
    EXPECT_TRUE(
        parameter(y, prefix + "layers.0.query_key_value.weight").narrow(0, 0, 32).equal(q(1)));
    EXPECT_TRUE(parameter(y, prefix + "norm.weight").equal(weights.at("model.norm.weight")));
  }
  EXPECT_TRUE(
      parameter(y, "branch.understanding.text_head.weight").equal(weights.at("lm_head.weight")));
}

TEST_F(Backbone, MayForkAnywhereAndHaveBranchesOfOtherDepthsAndWidths) {
  const auto comm = make_single_communicator();
  for (const int fork : {0, 1, 2}) {
    const RunConfig config = config_with({"model.y.trunk_layers=" + std::to_string(fork)});
    NamedThings things(config, *comm, at::kCPU);
    const auto& o = things.model_as<YDecoder>("y", "a test").module()->options();
    EXPECT_EQ(o.trunk_layers, fork);
    EXPECT_EQ(o.branches[0].layers, 2 - fork);
  }
  const RunConfig config =
      config_with({"model.y.trunk_layers=1", "model.y.branch.generation.layers=3",
                   "model.y.branch.generation.width=16", "model.y.branch.generation.heads=1",
                   "model.y.branch.generation.kv_heads=1"});
  NamedThings things(config, *comm, at::kCPU);
  auto& y = things.model_as<YDecoder>("y", "a test");
  EXPECT_EQ(parameter(y, "branch.generation.entry.weight").sizes(), (std::vector<int64_t>{16, 32}));
}

TEST_F(Backbone, IsRefusedWithFileKeyAndBothSizesWhereItDoesNotFit) {
  EXPECT_THAT(refusal([&] { config_with({"model.y.width=64"}); }),
              AllOf(HasSubstr("model.y.width = 64"), HasSubstr("has 32; leave it out")));
  EXPECT_THAT(refusal([&] { config_with({"model.y.trunk_layers=3"}); }),
              AllOf(HasSubstr("model.y.trunk_layers = 3"), HasSubstr("has 2 layers")));
  const auto comm = make_single_communicator();
  const ModelFolder other("llama");  // of 61 tokens
  const RunConfig config =
      config_with({"model.y.backbone=" + other.path(), "model.y.trunk_layers=1", "model.y.width=24",
                   "model.y.heads=4", "model.y.kv_heads=2", "model.y.feed_forward_width=40"});
  EXPECT_THAT(refusal([&] {
                NamedThings things(config, *comm, at::kCPU);
                things.model("y");
              }),
              AllOf(HasSubstr("\"names\" has 320 tokens, the embedding 61 rows"),
                    HasSubstr("config.json says in vocab_size")));
}

TEST_F(Backbone, GoesOnWithoutItsFolderOnceTheRunHasWeights) {
  const std::string copy = fresh_directory("copy"), run = fresh_directory("later");
  fs::create_directories(copy);
  fs::copy(folder_, copy, fs::copy_options::recursive);
  RunConfig config =
      config_with({"model.y.backbone=" + copy, "model.y.trunk_layers=1", "run.directory=" + run,
                   "data.emoji.validation=[]", "data.emoji.test=[]"});
  train_toy(config, 1);
  fs::remove_all(copy);
  const InferenceRun asked = load_for_inference({.run = run});
  EXPECT_EQ(asked.things->model_as<YDecoder>("y", "a test").module()->options().width, 32);
  export_decoder({.run = run, .to = fresh_directory("again")}, "y.understanding");
}

TEST_F(Backbone, AnExportOfAllModelsRunsWithoutTheFolderItBeganAs) {
  const std::string copy = fresh_directory("copy"), run = fresh_directory("later");
  const std::string to = fresh_directory("export");
  fs::create_directories(copy);
  fs::copy(folder_, copy, fs::copy_options::recursive);
  train_toy(config_with({"model.y.backbone=" + copy, "model.y.trunk_layers=1",
                         "run.directory=" + run, "data.emoji.validation=[]", "data.emoji.test=[]"}),
            1);
  fs::remove_all(copy);
  for (int again = 0; again < 2; ++again) export_run({.run = run, .to = to});
  ForwardRequest request = forward_request(to);
  request.inputs = {{"branch", torch::tensor({1}, at::kLong)},  // understanding
                    {"input_ids", torch::tensor({{5, 6, 7}}, at::kLong)}};
  const InferenceRun asked = load_for_inference({.run = run});
  auto& y = asked.things->model_as<YDecoder>("y", "a test");
  TokenRows rows;
  rows.text_ids = request.inputs["input_ids"][0];
  rows.sources = at::arange(kFirstText, kFirstText + 3, at::kLong);
  rows.mask = AttentionMask::from_lengths({3});
  const torch::NoGradGuard no_grad;
  const int64_t branch = y.module()->branch_index("understanding");
  const at::Tensor expected = y.module()->text_logits(y.module()->hidden(rows, branch), branch);
  EXPECT_TRUE(torch::equal(run_forward(request).at("logits")[0], expected));
}

TEST_F(Backbone, AnExportNamesTheBranchesThereAre) {
  const std::string to = fresh_directory("none");
  const auto refused = [&](const std::string& branch) {
    return refusal([&] { export_decoder({.run = run_, .to = to}, branch); });
  };
  EXPECT_THAT(refused("generation"),
              AllOf(HasSubstr("is no text branch"), HasSubstr("it has y.understanding")));
  EXPECT_FALSE(fs::exists(to));
}

}  // namespace
}  // namespace espalier
