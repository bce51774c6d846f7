// Any number of stages may train one model: each starts from what the one before left.
#include <gtest/gtest.h>

#include "real_things.h"
#include "refusal.h"
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

// One stage of both branches; the trunk is frozen at first, the left branch in the middle.
RunConfig scheduled(const std::string& directory, int64_t steps = 9) {
  return toy_config(directory, steps, {},
                    {"stage.first.freeze_schedule=[\"trunk.*: 0-3\", \"left.*: 3-6\"]",
                     "checkpoint.every_steps=1", "checkpoint.keep=100"});
}

TEST(FreezeSchedule, KeepsWhatFitsBitForBitInItsStepsAndTrainsItInTheOthers) {
  for (const int world : {1, 2}) {
    const RunConfig config = scheduled(fresh_directory("run"));
    train_toy(config, world);
    const auto at = [&](int64_t step, const std::string& name) {
      return newest_tensors(config.directory + "/checkpoints/step-000000000" + std::to_string(step))
          .at("model/one/" + name);
    };
    EXPECT_TRUE(at(1, "trunk.weight").equal(at(3, "trunk.weight"))) << world;
    EXPECT_FALSE(at(3, "trunk.weight").equal(at(4, "trunk.weight"))) << world;
    EXPECT_FALSE(at(2, "left.weight").equal(at(3, "left.weight"))) << world;
    EXPECT_TRUE(at(3, "left.weight").equal(at(6, "left.weight"))) << world;
    EXPECT_FALSE(at(6, "left.weight").equal(at(7, "left.weight"))) << world;
    EXPECT_FALSE(at(4, "trunk.weight").equal(at(6, "trunk.weight"))) << world;
  }
}

TEST(FreezeSchedule, IsTheSameOnAnyNumberOfRanksAndAfterAPauseInsideOfIt) {
  const RunConfig straight = scheduled(fresh_directory("straight"));
  const RunConfig resumed = scheduled(fresh_directory("resumed"));
  const auto one = train_toy(straight, 1).losses;
  train_toy(resumed, 1, 2);
  train_toy(resumed, 1, 3);  // at 5
  train_toy(resumed, 1);
  EXPECT_EQ(first_difference(newest_tensors(straight.directory), newest_tensors(resumed.directory)),
            "");
  const auto two = train_toy(scheduled(fresh_directory("two")), 2).losses;
  for (const auto& [step, loss] : one) EXPECT_NEAR(two.at(step), loss, 1e-4) << step;
}

TEST(FreezeSchedule, RefusesPatternsThatFitNothingAndStepsThatAreNone) {
  const auto refused = [](const std::string& schedule) {
    return refusal([&] {
      train_toy(toy_config(fresh_directory("run"), 2, {},
                           {"stage.first.freeze_schedule=[\"" + schedule + "\"]"}),
                1);
    });
  };
  EXPECT_NE(refused("trnk.*: 0-3").find("stage.first.freeze_schedule: \"trnk.*: 0-3\" fits no"),
            std::string::npos);
  for (const char* wrong : {"trunk.*", "trunk.*: 3", "trunk.*: 5-5", "trunk.*: a-b", ": 0-3"}) {
    EXPECT_NE(refused(wrong).find("write it like \"trunk.*: 0-200\""), std::string::npos) << wrong;
  }
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
