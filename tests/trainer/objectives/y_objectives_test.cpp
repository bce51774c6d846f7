// The objectives that train a Y-shaped decoder, on real images and names.
#include <cmath>
#include <filesystem>
#include <set>
#include <thread>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "comm/transport/single_communicator.h"
#include "comm/transport/thread_communicator.h"
#include "real_things.h"
#include "toy_room.h"
#include "trainer/errors.h"
#include "trainer/models/y_inference.h"
#include "trainer/objectives/draw/draw.h"
#include "trainer/stage.h"

namespace espalier {
namespace {

class YObjectives : public ::testing::Test {
 protected:
  struct Made {
    Made(const RunConfig& config, Communicator& comm, bool for_training = true)
        : things(config, comm, at::kCPU, for_training),
          stage(things, config.stages[1], for_training) {}
    YDecoder& y() { return things.model_as<YDecoder>("y", "a test"); }
    NamedThings things;
    Stage stage;
  };

  RunConfig config_ = small_config(fresh_directory("run"));
  std::unique_ptr<Communicator> comm_ = make_single_communicator();
};

TEST_F(YObjectives, ASlotIsAPureFunctionOfSeedStepAndSlot) {
  Made first(config_, *comm_), second(config_, *comm_);
  for (int64_t slot = 0; slot < 4; ++slot) {
    const auto a = first.stage.compute(first.stage.load(5, slot));
    const auto b = second.stage.compute(second.stage.load(5, slot));
    int defined = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      ASSERT_EQ(a[i].defined(), b[i].defined());
      if (!a[i].defined()) continue;
      ++defined;
      EXPECT_TRUE(torch::equal(a[i], b[i]));
    }
    EXPECT_EQ(defined, 1) << "an objective with a share has its slots alone";
  }
}

TEST_F(YObjectives, ABackwardReachesExactlyTheGroupsOfTheObjectivesInTheSlot) {
  Made made(config_, *comm_);
  for (int64_t slot = 0; slot < 4; ++slot) {
    made.y().module()->zero_grad();
    const SlotBatch batch = made.stage.load(0, slot);
    for (const at::Tensor& loss : made.stage.compute(batch)) {
      if (loss.defined()) loss.backward();
    }
    const std::vector<bool> used = made.stage.groups_in_slot(batch);
    for (size_t g = 0; g < used.size(); ++g) {
      for (const at::Tensor& parameter : made.stage.parameter_groups()[g].parameters) {
        EXPECT_EQ(parameter.grad().defined(), used[g]) << made.stage.parameter_groups()[g].name;
      }
    }
  }
}

TEST_F(YObjectives, PassesUnderABudgetHoldTheSamplesOfTheSlotOnceEachAndAddUpToIt) {
  config_ = small_config(fresh_directory("run"), {"stage.both.objectives.draw.hidden_codes=1"});
  for (const int64_t budget : {1, 90, 100000}) {
    config_.stages[1].tokens_per_pass = budget;
    Made made(config_, *comm_);
    for (int64_t slot = 0; slot < 4; ++slot) {
      const SlotBatch whole = made.stage.load(3, slot);
      std::vector<double> expected(made.stage.losses().size(), 0.0), counted = expected;
      made.stage.count_targets(whole, expected);
      const auto losses = made.stage.compute(whole);
      std::vector<at::Tensor> sums(losses.size());
      int64_t samples = 0, passes = 0;
      for (const SlotBatch& pass : made.stage.load_passes(3, slot)) {
        ++passes;
        made.stage.count_targets(pass, counted);
        const ObjectiveBatch& part = *pass.parts.front();
        EXPECT_EQ(part.turn.first_sample(), whole.parts.front()->turn.first_sample() + samples);
        samples += part.turn.samples;
        if (part.turn.samples > 1) {
          EXPECT_LE(part.positions, static_cast<double>(budget));
        }
        const auto of_pass = made.stage.compute(pass);
        for (size_t i = 0; i < of_pass.size(); ++i) {
          if (!of_pass[i].defined()) continue;
          sums[i] = sums[i].defined() ? sums[i] + of_pass[i] : of_pass[i];
        }
      }
      EXPECT_EQ(samples, config_.stages[1].micro_batch_size);
      EXPECT_EQ(passes == 1, budget == 100000) << budget;
      EXPECT_EQ(counted, expected);
      for (size_t i = 0; i < losses.size(); ++i) {
        ASSERT_EQ(sums[i].defined(), losses[i].defined());
        if (!sums[i].defined()) continue;
        EXPECT_NEAR(sums[i].item<double>() / losses[i].item<double>(), 1.0, 1e-5);
      }
    }
  }
}

TEST_F(YObjectives, DrawingHidesSomePositionsOfEachPictureAndTheSameOnesEachTime) {
  config_ = small_config(fresh_directory("run"), {"stage.both.objectives.draw.hidden_codes=1"});
  Made first(config_, *comm_), second(config_, *comm_);
  double hidden = 0, all = 0;
  for (int64_t step = 0; step < 20; ++step) {
    for (int64_t slot = 0; slot < 4; ++slot) {
      const SlotBatch a = first.stage.load(step, slot), b = second.stage.load(step, slot);
      const auto* drawn = dynamic_cast<const DrawBatch*>(a.parts.front().get());
      if (drawn == nullptr) continue;
      const at::Tensor& shown = drawn->shown;
      EXPECT_TRUE(torch::equal(shown, dynamic_cast<const DrawBatch&>(*b.parts.front()).shown));
      hidden += (1 - shown).sum().item<double>();
      all += static_cast<double>(shown.numel());
    }
  }
  EXPECT_NEAR(hidden / all, 0.5, 0.1);  // the mean of what is drawn between 0 and 1
}

TEST_F(YObjectives, AFreshModelGuessesCodesAndTokensAboutUniformly) {
  Made made(config_, *comm_);
  const auto vocabulary = static_cast<double>(made.y().text().size());
  for (int64_t slot = 0; slot < 4; ++slot) {
    const SlotBatch batch = made.stage.load(0, slot);
    std::vector<double> counts(made.stage.losses().size(), 0.0);
    made.stage.count_targets(batch, counts);
    const auto losses = made.stage.compute(batch);
    for (size_t i = 0; i < losses.size(); ++i) {
      if (!losses[i].defined()) continue;
      // Logits of unit variance cost half a nat more than equal ones.
      const double choices = made.stage.losses()[i].name == "draw" ? 16.0 : vocabulary;
      EXPECT_NEAR(losses[i].item<double>() / counts[i], std::log(choices) + 0.5, 0.5)
          << made.stage.losses()[i].name;
    }
  }
}

TEST_F(YObjectives, EvaluationDoesNotDependOnTheNumberOfRanks) {
  const std::string directory = fresh_directory("evaluation");
  std::filesystem::create_directories(directory);
  const EvaluationRequest request{
      .directory = directory, .picture_prefix = "both-", .split = "validation", .max_samples = 6};
  // Not for training: then nothing is exchanged while they are built, one after the other, as
  // threads share the generator that weights are drawn from.
  Made single(config_, *comm_, /*for_training=*/false);
  const std::vector<Section> expected = single.stage.evaluate(request);
  EXPECT_TRUE(std::filesystem::exists(directory + "/both-draw-drawn-seen.png"));
  auto ranks = make_thread_communicators(2);
  Made mine(config_, *ranks[0], false), other(config_, *ranks[1], false);
  std::thread helper([&] { other.stage.evaluate(request); });
  const std::vector<Section> got = mine.stage.evaluate(request);
  helper.join();
  ASSERT_EQ(got.size(), 3U);
  for (size_t i = 0; i < got.size(); ++i) {
    const auto numbers = numbers_of(got[i]), wanted = numbers_of(expected[i]);
    ASSERT_EQ(numbers.size(), wanted.size());
    for (size_t k = 0; k < numbers.size(); ++k) {
      EXPECT_EQ(numbers[k].first, wanted[k].first);
      EXPECT_NEAR(numbers[k].second, wanted[k].second, 1e-4 * std::abs(wanted[k].second) + 1e-6)
          << got[i].name << " " << numbers[k].first;
    }
  }
}

TEST_F(YObjectives, CaptionsAndDrawingsOfCombinationsAreScoredPartByPart) {
  const std::string tones = ESPALIER_SOURCE_DIR "/data/emoji/tones-32-";
  const std::string directory = fresh_directory("parts");
  std::filesystem::create_directories(directory);
  const RunConfig config =
      small_config(directory, {"data.emoji.train=" + tones + "test.tar",
                               "data.emoji.validation=" + tones + "validation.tar"});
  Made made(config, *comm_, /*for_training=*/false);
  const std::vector<Section> sections = made.stage.evaluate(
      {.directory = directory, .picture_prefix = "", .split = "validation", .max_samples = 6});
  for (const Section& section : {sections.front(), sections.back()}) {
    std::set<std::string> names;
    for (const Metric& metric : section.metrics) names.insert(metric.name);
    for (const char* group : {"training_", "never_seen_"}) {
      for (const char* part : {"all", "emoji", "tone"}) {
        EXPECT_TRUE(names.contains(std::string(group) + part)) << section.name;
      }
    }
    EXPECT_FALSE(names.contains("new_all")) << "one picture of each combination is no new one";
  }
}

TEST_F(YObjectives, TheSameTextAndSeedDrawTheSamePicture) {
  Made made(config_, *comm_);
  const SamplingOptions sampling{.guidance = 2.0, .temperature = 1.0};
  const int64_t branch = made.y().module()->branch_index("generation");
  const std::vector<DrawPrompt> prompts = {caption_prompt(made.y(), DrawSettings(), "red heart"),
                                           caption_prompt(made.y(), DrawSettings(), "cat")};
  const auto first = draw_pictures(made.y(), branch, prompts, sampling, 7);
  const auto again = draw_pictures(made.y(), branch, prompts, sampling, 7);
  const auto other = draw_pictures(made.y(), branch, prompts, sampling, 8);
  ASSERT_EQ(first.size(), 2U);
  EXPECT_EQ(first[0].width, 32);
  EXPECT_EQ(first[0].rgb, again[0].rgb);
  EXPECT_NE(first[0].rgb, other[0].rgb);
}

TEST_F(YObjectives, ImagesOfAnySizeGetOneCaptionEach) {
  Made made(config_, *comm_);
  const int64_t branch = made.y().module()->branch_index("understanding");
  EXPECT_EQ(write_captions(made.y(), branch, {blank_image(32, 32), blank_image(32, 32, 0)}).size(),
            2U);
}

TEST_F(YObjectives, AThirdBranchIsAddedByTheConfigAloneAndTrains) {
  std::string text = small_toml(fresh_directory("edit"));
  text.insert(text.find("[compute]"), "[model.y.branch.edit]\nlayers = 2\nhead = \"codes\"\n");
  text +=
      "[[stage.objectives]]\nname = \"edit\"\nkind = \"draw\"\nshare = 4\ndata = \"emoji\"\n"
      "branch = \"edit\"\n";
  const RunConfig config = load_run_config(
      write_config(text), {"stage.codes.steps=2", "stage.both.steps=4", "log.every_steps=1"});
  EXPECT_EQ(train_toy(config, 2).losses.size(), 6U);
  const TensorMap trained = newest_tensors(config.directory);
  const TensorMap fresh = [&] {
    NamedThings things(config, *comm_, at::kCPU);
    return things.model("y").state();
  }();
  int changed = 0;
  for (const auto& [name, tensor] : fresh) {
    if (!name.starts_with("branch.edit.")) continue;
    changed += !tensor.equal(trained.at("model/y/" + name));
  }
  EXPECT_GT(changed, 10);
}

TEST_F(YObjectives, BranchesThatDoNotFitAreRefusedWithTheOnesThereAre) {
  const auto message = [&](const std::string& set) {
    try {
      small_config(fresh_directory("run"), {set});
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  for (const char* set : {"stage.both.objectives.caption.branch=understandin",
                          "stage.both.objectives.caption.branch=generation"}) {
    const std::string text = message(set);
    EXPECT_NE(text.find("understanding (text), generation (codes)"), std::string::npos) << text;
  }
}

// The encoder alone would take gigabytes for all of it.
TEST_F(YObjectives, ACaptionOfAMegabyteIsCutToWhatTheModelTakes) {
  Made made(config_, *comm_);
  std::string caption;
  while (caption.size() < (1 << 20)) caption += "red apple \xc3\xa9t\xc3\xa9 ";
  const auto ids = made.y().encode_cut(caption);
  EXPECT_EQ(static_cast<int64_t>(ids.size()), made.y().max_text_tokens());
  EXPECT_EQ(made.y().encode_cut("red apple"), made.y().encode("red apple"));
}

}  // namespace
}  // namespace espalier
