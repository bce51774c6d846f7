#include "trainer/models/world_model.h"

#include <fstream>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "comm/transport/single_communicator.h"
#include "toy_room.h"
#include "trainer/errors.h"
#include "trainer/named/named_things.h"
#include "world_things.h"

namespace espalier {
namespace {

class WorldModelTest : public ::testing::Test {
 protected:
  std::string message_of(const std::vector<std::string>& sets) {
    try {
      const RunConfig config = files_.config(fresh_directory("run"), sets);
      NamedThings things(config, *comm_, at::kCPU);
      things.model("world");
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "no error";
  }
  void expect_in(const std::vector<std::string>& sets, const std::vector<std::string>& parts) {
    const std::string text = message_of(sets);
    for (const std::string& part : parts) {
      EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" is not in: " << text;
    }
  }
  std::string mask_file(const std::string& text) {
    const std::string folder = fresh_directory("mask");
    std::filesystem::create_directories(folder);
    std::ofstream(folder + "/mask.toml") << text;
    return folder + "/mask.toml";
  }

  WorldFiles files_;
  std::unique_ptr<Communicator> comm_ = make_single_communicator();
};

TEST_F(WorldModelTest, AFolderThatIsNotThereIsAnsweredWithTheCommandThatMakesIt) {
  expect_in({"episodes.sums.path=/nowhere/at/all"},
            {"episodes.sums.path = \"/nowhere/at/all\"", "data/simulators/prepare babyai"});
}

TEST_F(WorldModelTest, ItsResolvedConfigReadsBackTheSame) {
  const RunConfig config = files_.config(fresh_directory("run"));
  EXPECT_EQ(load_run_config(write_config(config.resolved)).values, config.values);
}

TEST_F(WorldModelTest, NamesThatDoNotFitAreAnsweredWithThoseThatDo) {
  expect_in({"model.world.episodes=sum"}, {"model.world.episodes = \"sum\"", "declared: sums"});
  expect_in({"episodes.sums.tasks=[\"Pull\"]"}, {"\"Pull\" is no task", "Reach, Push"});
  expect_in({"episodes.sums.pth=x"}, {"did you mean episodes.sums.path?"});
}

TEST_F(WorldModelTest, SizesThatDoNotFitNameTheSetting) {
  expect_in({"model.world.heads=5"},
            {"model.world.heads = 5 does not divide model.world.width = 24"});
  expect_in({"model.world.patch=3"}, {"model.world.patch = 3", "8 x 8"});
  expect_in({"model.world.diffusion.sampling_steps=3"}, {"diffusion.sampling_steps = 3"});
  expect_in({"model.world.share_query=true", "model.world.queries.depth=3"}, {"share_query"});
  expect_in({"model.world.share_query=true", "model.world.width=48"},
            {"share_query", "depth is there in 1 of 2"});
  expect_in({"model.world.patch=2"}, {"queries.trajectory = 2", "cells of 4 pixels"});
}

TEST_F(WorldModelTest, AMaskThatIsNotForItSaysWhatDiffers) {
  expect_in({"model.world.mask_settings=[\"goal_offset=1\"]"},
            {"sees \"state\" of a later timestep", "goal_offset"});
  expect_in({"model.world.mask_settings=[\"context=9\"]"}, {"group \"observation\" has"});
  const std::string other = mask_file(
      "[settings]\ntimesteps = 1\ncontext = 3\naction = 1\ndream.dynamic = 0\ndream.depth = 0\n"
      "dream.semantic = 0\ndream.trajectory = 0\n[[group]]\nname = \"sound\"\ntokens = 1\n");
  expect_in({"model.world.mask=" + other}, {"no tokens for group \"sound\""});
}

// Groups in another order, same rules: the same model.
TEST_F(WorldModelTest, TheMaskFileSaysWhereTokensLieAndTheModelFollows) {
  std::ifstream stream(ESPALIER_SOURCE_DIR "/configs/masks/dreamvla.toml");
  std::string text{std::istreambuf_iterator<char>(stream), {}};
  const size_t first = text.find("[[group]]"), last = text.rfind("[[group]]");
  const std::string moved =
      text.substr(0, first) + text.substr(last) + text.substr(first, last - first);
  const torch::NoGradGuard no_gradient;
  std::vector<at::Tensor> found;
  for (const std::string& mask : {mask_file(text), mask_file(moved)}) {
    const RunConfig config = files_.config(fresh_directory("run"), {"model.world.mask=" + mask});
    NamedThings things(config, *comm_, at::kCPU);
    auto& model = things.model_as<WorldModel>("world", "a test");
    torch::manual_seed(4);
    const WorldInputs inputs{.images = torch::randint(256, {4, 2, 3, 8, 8}).to(at::kByte),
                             .observed = {},
                             .state = torch::randn({4, 3}),
                             .steps = torch::arange(4, at::kLong),
                             .words = torch::ones({2, 16}, at::kLong),
                             .lengths = {1, 3}};  // 3 steps of the first window, 1 of the second
    for (auto& item : model.network()->named_parameters()) {
      if (item.key().find("queries") != std::string::npos) item.value().normal_();
    }
    const at::Tensor hidden = model.network()->hidden(inputs, model.layout());
    found.push_back(model.network()->action_rows(hidden, inputs, model.layout()));
    found.push_back(model.network()->dream(hidden, inputs, model.layout(), 2));
  }
  EXPECT_TRUE(torch::allclose(found[0], found[2], 1e-5, 1e-6));
  EXPECT_TRUE(torch::allclose(found[1], found[3], 1e-5, 1e-6));
}

TEST_F(WorldModelTest, EveryParameterIsInOneGroup) {
  const RunConfig config = files_.config(fresh_directory("run"));
  NamedThings things(config, *comm_, at::kCPU);
  auto& model = things.model_as<WorldModel>("world", "a test");
  size_t count = 0;
  std::vector<std::string> names;
  for (const ParameterGroup& group : model.parameter_groups()) {
    EXPECT_FALSE(group.parameters.empty()) << group.name;
    count += group.parameters.size();
    names.push_back(group.name);
  }
  EXPECT_EQ(count, model.network()->parameters().size());
  EXPECT_EQ(names, (std::vector<std::string>{"trunk", "dream.dynamic", "dream.depth",
                                             "dream.semantic", "dream.trajectory", "action"}));
}

TEST_F(WorldModelTest, UnknownWordsShareAnIdAndLongInstructionsNameTheSetting) {
  const RunConfig config = files_.config(fresh_directory("run"), {"model.world.max_words=4"});
  NamedThings things(config, *comm_, at::kCPU);
  auto& model = things.model_as<WorldModel>("world", "a test");
  const auto [ids, count] = model.encode("Go TO the unicorn");  // words: ball, go, the, to
  EXPECT_EQ(count, 4);
  EXPECT_TRUE(torch::equal(ids, torch::tensor({2, 4, 3, 0}, at::kLong)));
  EXPECT_EQ(model.encode("").second, 1) << "nothing said is one unknown word";
  try {
    model.encode("go to the ball and come back");
    FAIL() << "seven words were accepted by a model of four";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("model.world.max_words = 4"), std::string::npos);
  }
}

// What is where stays known: a patch has a token of its own.
TEST_F(WorldModelTest, WithoutLatentsEachPatchComesIntoTheTrunk) {
  const RunConfig config = files_.config(
      fresh_directory("run"), {"model.world.resampler.latents=0", "model.world.encoder.blocks=0"});
  NamedThings things(config, *comm_, at::kCPU);
  WorldNetwork& network = things.model_as<WorldModel>("world", "a test").network();
  EXPECT_FALSE(network->resampler);
  // 2 views of 2 x 2 patches and a pooled token.
  EXPECT_EQ(network->options().observation_tokens(), 10);
  const at::Tensor images = at::full({1, 2, 3, 8, 8}, 90, at::kByte);
  at::Tensor other = images.clone();
  other[0][1].slice(1, 4, 8).slice(2, 0, 4).fill_(7);  // the third patch of the second view
  const torch::NoGradGuard no_gradient;
  const at::Tensor differs =
      (network->observe(images) != network->observe(other)).any(2).flatten().nonzero().flatten();
  EXPECT_TRUE(differs.equal(torch::tensor({7, 9}, at::kLong))) << differs;  // and its view's pooled
}

}  // namespace
}  // namespace espalier
