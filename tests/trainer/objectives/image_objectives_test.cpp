// The objectives that train an image tokenizer, on real images.
#include <cmath>
#include <filesystem>
#include <thread>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "comm/transport/single_communicator.h"
#include "comm/transport/thread_communicator.h"
#include "real_things.h"
#include "toy_room.h"
#include "trainer/errors.h"
#include "trainer/objectives/masked_patches/masked_patches.h"
#include "trainer/objectives/residual_evolution/residual_evolution.h"
#include "trainer/stage.h"

namespace espalier {
namespace {

class ImageObjectives : public ::testing::Test {
 protected:
  // A stage with things of its own.
  struct Made {
    Made(const RunConfig& config, Communicator& comm)
        : things(config, comm, at::kCPU), stage(things, config.stages[0], /*for_training=*/true) {}
    NamedThings things;
    Stage stage;
  };

  static const ResidualEvolutionBatch& evolution(const SlotBatch& batch) {
    return dynamic_cast<const ResidualEvolutionBatch&>(*batch.parts.at(0));
  }
  static const MaskedPatchesBatch& masked(const SlotBatch& batch) {
    return dynamic_cast<const MaskedPatchesBatch&>(*batch.parts.at(1));
  }

  RunConfig config_ = small_config(fresh_directory("run"));
  std::unique_ptr<Communicator> comm_ = make_single_communicator();
};

TEST_F(ImageObjectives, ASlotIsAPureFunctionOfStepAndSlot) {
  Made first(config_, *comm_), second(config_, *comm_);
  second.stage.load(0, 0);
  const SlotBatch a = first.stage.load(3, 1), b = second.stage.load(3, 1),
                  other = second.stage.load(3, 2);
  EXPECT_TRUE(torch::equal(evolution(a).inputs.images, evolution(b).inputs.images));
  EXPECT_TRUE(torch::equal(evolution(a).inputs.pixel_depth, evolution(b).inputs.pixel_depth));
  EXPECT_TRUE(torch::equal(masked(a).grid.visible, masked(b).grid.visible));
  EXPECT_FALSE(torch::equal(evolution(a).inputs.images, evolution(other).inputs.images));
}

TEST_F(ImageObjectives, ThatShareASlotSeeTheSameImages) {
  Made made(config_, *comm_);
  const SlotBatch batch = made.stage.load(2, 3);
  EXPECT_TRUE(torch::equal(evolution(batch).inputs.images, masked(batch).images));
}

TEST_F(ImageObjectives, CountTheirTargetsAndNothingIsTaughtWithoutATeacher) {
  Made made(config_, *comm_);
  std::vector<double> counts(made.stage.losses().size(), 0.0);
  made.stage.count_targets(made.stage.load(0, 0), counts);
  std::vector<std::string> names;
  for (const StageLoss& loss : made.stage.losses()) names.push_back(loss.name);
  EXPECT_EQ(names,
            (std::vector<std::string>{"residual_evolution/pixel", "residual_evolution/commitment",
                                      "residual_evolution/semantic", "masked_patches/mimic",
                                      "masked_patches/reconstruct"}));
  EXPECT_EQ(counts, (std::vector<double>{4 * 3072.0, 4 * 64 * 6 * 4.0, 0.0, 0.0, 4 * 48 * 48.0}));
}

TEST_F(ImageObjectives, EveryDeadCodeIsOfferedExactlyOneVectorOfTheStep) {
  Made made(config_, *comm_);
  at::Tensor offers = torch::zeros({6, 16}, at::kLong);
  for (int64_t slot = 0; slot < 4; ++slot) {
    const SlotBatch batch = made.stage.load(5, slot);
    const at::Tensor& rows = evolution(batch).candidate_rows;
    offers += rows.ge(0).to(at::kLong);
    EXPECT_TRUE(rows.lt(4 * 64).all().item<bool>());
  }
  EXPECT_TRUE(offers.eq(1).all().item<bool>());
}

TEST_F(ImageObjectives, AveragedWeightsCoverTheCodebooks) {
  const RunConfig config = small_config(fresh_directory("averaged"), {"stage.*.ema_decay=0.9"});
  train_toy(config, 1, 4);
  const TensorMap saved = newest_tensors(config.directory);
  const std::string name = "model/tokenizer/quantizer.codebooks";
  ASSERT_TRUE(saved.contains("training/codes/average/" + name));
  EXPECT_FALSE(saved.at("training/codes/average/" + name).equal(saved.at(name)));
}

// Runs this rank's slots of one step without touching the weights; returns the codebooks after it.
at::Tensor codebooks_after_step(NamedThings& things, Stage& stage, Communicator& comm) {
  const int64_t per_rank = stage.config().slots() / comm.size();
  for (int64_t i = 0; i < per_rank; ++i) {
    stage.compute(stage.load(0, comm.rank() * per_rank + i));
  }
  stage.after_update(comm, 0);
  return things.model("tokenizer").state().at("quantizer.codebooks").clone();
}

TEST_F(ImageObjectives, CodebooksDoNotDependOnTheNumberOfRanks) {
  Made single(config_, *comm_);
  const at::Tensor expected = codebooks_after_step(single.things, single.stage, *comm_);
  const auto comms = make_thread_communicators(2);
  // Made one after the other: threads share the generator that weights are drawn from.
  Made first(config_, *comms[0]), second(config_, *comms[1]);
  std::vector<at::Tensor> got(2);
  std::thread helper(
      [&] { got[1] = codebooks_after_step(second.things, second.stage, *comms[1]); });
  got[0] = codebooks_after_step(first.things, first.stage, *comms[0]);
  helper.join();
  EXPECT_TRUE(torch::equal(got[0], got[1]));
  EXPECT_TRUE(torch::allclose(got[0], expected, 1e-4, 1e-5));
}

TEST_F(ImageObjectives, CodebooksRestWhileTheirObjectiveHasNoSlot) {
  const RunConfig config =
      small_config(fresh_directory("shares"),
                   {"stage.codes.objectives.residual_evolution.share=1",
                    "stage.codes.objectives.masked_patches.share=119", "stage.codes.batch_size=4"});
  Made made(config, *comm_);
  const int64_t step = made.stage.plan().runs_in(0)[0] ? 1 : 0;
  ASSERT_FALSE(made.stage.plan().runs_in(step)[0]);
  const at::Tensor books = made.things.model("tokenizer").state().at("quantizer.codebooks");
  const at::Tensor before = books.clone();
  made.stage.after_update(*comm_, step);
  EXPECT_TRUE(books.equal(before));
}

TEST_F(ImageObjectives, EvaluationReportsEveryStageBesideBaselinesAndWritesItsPictures) {
  Made made(config_, *comm_);
  const std::string directory = fresh_directory("evaluation");
  std::filesystem::create_directories(directory);
  const std::vector<Section> sections = made.stage.evaluate(
      {.directory = directory, .picture_prefix = "codes-", .is_final = true, .max_samples = 20});
  ASSERT_EQ(sections.size(), 2U);
  const Section& codes = sections[0];
  ASSERT_FALSE(codes.series.empty());
  EXPECT_EQ(codes.series[0].name, "psnr_db");
  EXPECT_EQ(codes.series[0].values.size(), 4U);
  ASSERT_EQ(codes.series[0].baselines.size(), 3U);
  const double webp = codes.series[0].baselines[0].value, mean = codes.series[0].baselines[2].value;
  EXPECT_GT(webp, mean) << "a codec beats one image for all";
  EXPECT_LT(codes.series[0].values.back(), webp) << "random weights beat no codec";
  for (const Section& section : sections) {
    for (const Metric& metric : section.metrics) EXPECT_NE(metric.name, "mimic_cosine");
    for (const Picture& picture : section.pictures) {
      EXPECT_TRUE(std::filesystem::exists(picture.path)) << picture.path;
    }
    EXPECT_FALSE(section.pictures.empty()) << section.name;
  }
}

TEST_F(ImageObjectives, ImagesOfAnotherSizeThanTheModelsAreRefusedWithBothSettings) {
  try {
    small_config(fresh_directory("other"), {"data.emoji.image_size=16"});
    FAIL() << "16 pixels were accepted by a tokenizer of 32";
  } catch (const ConfigError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("data.emoji.image_size is 16"), std::string::npos) << message;
    EXPECT_NE(message.find("images of 32 pixels (image_size)"), std::string::npos) << message;
  }
  EXPECT_THROW(small_config(fresh_directory("odd"), {"model.tokenizer.image_size=30"}),
               ConfigError);
}

}  // namespace
}  // namespace espalier
