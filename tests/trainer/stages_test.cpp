// Any number of stages may train one model: each starts from what the one before left.
#include <gtest/gtest.h>

#include "real_things.h"
#include "toy_room.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

// Three stages that train the model "one": both branches, then the right one alone, then all again.
std::string three_stages(const std::string& directory) {
  std::string text = toy_toml(directory, 6);
  text = text.substr(0, text.find("[[stage]]"));
  const auto stage = [&](const std::string& name, const std::string& freeze, bool has_left) {
    text += "[[stage]]\nname = \"" + name + "\"\ntrains = \"one\"\nsteps = 6\nbatch_size = 4\n" +
            "micro_batch_size = 2\n" + freeze + "[stage.optimizer]\nwarmup_steps = 1\n";
    if (has_left) {
      text += "[[stage.objectives]]\nkind = \"toy_regression\"\nname = \"left\"\nshare = 1\n";
    }
    text +=
        "[[stage.objectives]]\nkind = \"toy_regression\"\nname = \"right\"\nbranch = \"right\"\n"
        "share = 1\n";
  };
  stage("both", "", true);
  stage("right_only", "freeze = [\"trunk.*\", \"left.*\"]\n", false);
  stage("again", "", true);
  return text;
}

TEST(Stages, ThatTrainOneModelFollowEachOther) {
  RunConfig config = load_run_config(write_config(three_stages(fresh_directory("run"))));
  config.checkpoint.keep = 10;
  EXPECT_EQ(train_toy(config, 2).losses.size(), 18U);
  const auto at = [&](int64_t step) {
    RunConfig copy = config;
    return newest_tensors(config.directory + "/checkpoints/step-00000000" + (step < 10 ? "0" : "") +
                          std::to_string(step));
  };
  const TensorMap first = at(6), second = at(12), third = at(18);
  EXPECT_TRUE(first.at("model/one/trunk.weight").equal(second.at("model/one/trunk.weight")));
  EXPECT_TRUE(first.at("model/one/left.weight").equal(second.at("model/one/left.weight")));
  EXPECT_FALSE(first.at("model/one/right.weight").equal(second.at("model/one/right.weight")));
  EXPECT_FALSE(second.at("model/one/trunk.weight").equal(third.at("model/one/trunk.weight")));
}

TEST(Stages, ThatTrainOneModelResumeBitForBitInsideEach) {
  const RunConfig straight =
      load_run_config(write_config(three_stages(fresh_directory("straight"))));
  const RunConfig resumed = load_run_config(write_config(three_stages(fresh_directory("resumed"))));
  train_toy(straight, 1);
  train_toy(resumed, 1, 3);  // in the first stage
  train_toy(resumed, 1, 6);  // at 9, in the second
  train_toy(resumed, 1, 5);  // at 14, in the third
  train_toy(resumed, 1);
  EXPECT_EQ(first_difference(newest_tensors(straight.directory), newest_tensors(resumed.directory)),
            "");
}

// Two stages that train the tokenizer and two that train the decoder, the last one with the trunk
// and a branch frozen. Nothing is measured: there is no held-out split.
RunConfig four_stages(const std::string& directory) {
  std::string text = small_toml(directory);
  const size_t codes = text.find("[[stage]]"), both = text.find("[[stage]]", codes + 1);
  std::string again = text.substr(codes, both - codes);
  again.replace(again.find("\"codes\""), 7, "\"codes_again\"");
  text.insert(both, again);
  text +=
      "[[stage]]\nname = \"draw_only\"\ntrains = \"y\"\nsteps = 6\nbatch_size = 4\n"
      "micro_batch_size = 2\nfreeze = [\"trunk.*\", \"branch.understanding.*\"]\n"
      "[[stage.objectives]]\nkind = \"draw\"\ndata = \"emoji\"\nbranch = \"generation\"\n";
  return load_run_config(write_config(text),
                         {"data.emoji.validation=[]", "data.emoji.test=[]", "log.every_steps=1",
                          "log.tensorboard=false", "checkpoint.keep=10"});
}

TEST(RealStages, TwoTokenizerAndTwoDecoderStagesFollowEachOtherAndResumeBitForBitInsideEach) {
  const RunConfig straight = four_stages(fresh_directory("straight"));
  const RunConfig resumed = four_stages(fresh_directory("resumed"));
  EXPECT_EQ(train_toy(straight, 1).losses.size(), 24U);
  for (const int steps : {3, 6, 6, 5}) train_toy(resumed, 1, steps);  // at 3, 9, 15, 20
  train_toy(resumed, 1);
  EXPECT_EQ(first_difference(newest_tensors(straight.directory), newest_tensors(resumed.directory)),
            "");

  const auto after = [&](const std::string& step) {
    return newest_tensors(straight.directory + "/checkpoints/step-00000000" + step);
  };
  const TensorMap both = after("18"), last = after("24");
  int trunk = 0, generation = 0;
  for (const auto& [name, tensor] : both) {
    if (name.starts_with("model/tokenizer/")) {
      EXPECT_TRUE(tensor.equal(last.at(name))) << name;
    }
    if (name.starts_with("model/y/trunk.") || name.starts_with("model/y/text_embedding") ||
        name.starts_with("model/y/branch.understanding.")) {
      EXPECT_TRUE(tensor.equal(last.at(name))) << name;
      ++trunk;
    }
    if (name.starts_with("model/y/branch.generation.")) generation += !tensor.equal(last.at(name));
  }
  EXPECT_GT(trunk, 10);
  EXPECT_GT(generation, 10);
  EXPECT_TRUE(last.contains("objective/tokenizer/masked_patches/mimic_head.weight"));
}

TEST(RealStages, AFrozenHeadOfAnObjectiveIsTakenOverFromTheStageBefore) {
  std::string text = small_toml(fresh_directory("run"));
  const size_t codes = text.find("[[stage]]"), both = text.find("[[stage]]", codes + 1);
  std::string again = text.substr(codes, both - codes);
  again.replace(again.find("\"codes\""), 7, "\"codes_again\"");
  again.insert(again.find("[stage.optimizer]"), "freeze = \"masked_patches.*\"\n");
  text = text.substr(0, both) + again;
  const RunConfig config =
      load_run_config(write_config(text), {"data.emoji.validation=[]", "data.emoji.test=[]",
                                           "checkpoint.keep=10", "log.tensorboard=false"});
  train_toy(config, 1);
  const std::string head = "objective/tokenizer/masked_patches/mimic_head.weight";
  const auto after = [&](const std::string& step) {
    return newest_tensors(config.directory + "/checkpoints/step-00000000" + step).at(head);
  };
  EXPECT_TRUE(after("06").equal(after("12")));
}

TEST(Stages, PatternsOfFreezeMustFitSomethingAndLeaveSomething) {
  const auto message = [&](const std::string& freeze) {
    std::string text = three_stages(fresh_directory("run"));
    const size_t at = text.find("freeze = ");
    text.replace(at, text.find('\n', at) - at, "freeze = " + freeze);
    try {
      train_toy(load_run_config(write_config(text)), 1);
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_NE(message("[\"trnk.*\"]").find("\"trnk.*\" fits no parameter"), std::string::npos);
  EXPECT_NE(message("[\"*\"]").find("leaves nothing to train"), std::string::npos);
}

}  // namespace
}  // namespace espalier
