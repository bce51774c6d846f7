#include "trainer/unified_stage.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <thread>

#include <nlohmann/json.hpp>

#include "comm/transport/single_communicator.h"
#include "comm/transport/thread_communicator.h"
#include "trainer/errors.h"
#include "trainer/tokenizer_stage.h"

namespace espalier {
namespace {

// The test split (178 emoji) as training data, a tokenizer with its first random weights:
// everything is real but the quality.
class UnifiedStageTest : public ::testing::Test {
 protected:
  UnifiedStageTest() {
    torch::manual_seed(1);
    const std::string shard = ESPALIER_SOURCE_DIR "/data/emoji/emoji-32-test.tar";
    config_.directory = ::testing::TempDir() + "unified_stage_test";
    config_.data.train = config_.data.test = config_.data.validation = {shard};
    config_.text.vocabulary_size = 320;
    config_.tokenizer.width = 16;
    config_.model = {.width = 32,
                     .heads = 2,
                     .kv_heads = 2,
                     .feed_forward_width = 48,
                     .trunk_layers = 1,
                     .understanding_layers = 1,
                     .generation_layers = 1,
                     .depth_width = 32,
                     .depth_heads = 2,
                     .depth_layers = 1,
                     .depth_feed_forward_width = 48};
    StageConfig tokenizer;
    tokenizer.name = tokenizer.kind = "tokenizer";
    StageConfig unified;
    unified.name = unified.kind = "unified";
    unified.batch_size = 8;
    unified.micro_batch_size = 2;
    unified.tasks = {{"caption", 1.0}, {"group", 1.0}, {"draw", 2.0}};
    config_.stages = {tokenizer, unified};
    images_ = std::make_unique<TokenizerStage>(
        StageContext{config_, config_.stages[0], at::kCPU, *comm_, {}, false});
  }

  std::unique_ptr<UnifiedStage> make_stage() {
    return std::make_unique<UnifiedStage>(
        StageContext{config_, config_.stages[1], at::kCPU, *comm_, {images_.get()}, true});
  }

  RunConfig config_;
  std::unique_ptr<Communicator> comm_ = make_single_communicator();
  std::unique_ptr<TokenizerStage> images_;
};

TEST_F(UnifiedStageTest, ASlotIsAPureFunctionOfSeedStepAndSlot) {
  const auto first = make_stage();
  const auto second = make_stage();
  for (int64_t slot = 0; slot < 4; ++slot) {
    const auto a = first->load(5, slot);
    const auto b = second->load(5, slot);
    EXPECT_EQ(a->task, b->task);
    EXPECT_EQ(a->target_counts, b->target_counts);
    const auto losses_a = first->losses(*a, 5);
    const auto losses_b = second->losses(*b, 5);
    for (size_t i = 0; i < losses_a.size(); ++i) {
      ASSERT_EQ(losses_a[i].defined(), losses_b[i].defined());
      if (losses_a[i].defined()) {
        EXPECT_TRUE(torch::equal(losses_a[i], losses_b[i]));
      }
    }
  }
}

TEST_F(UnifiedStageTest, ABackwardTouchesExactlyTheGroupsOfItsTask) {
  const auto stage = make_stage();
  const auto groups = stage->parameter_groups();
  for (int64_t slot = 0; slot < 12; ++slot) {
    stage->model()->zero_grad();
    const auto batch = stage->load(0, slot);
    for (const auto& loss : stage->losses(*batch, 0)) {
      if (loss.defined()) loss.backward();
    }
    for (size_t g = 0; g < groups.size(); ++g) {
      for (const auto& parameter : groups[g].parameters) {
        EXPECT_EQ(parameter.grad().defined(), batch->groups[g]) << batch->task << groups[g].name;
      }
    }
  }
}

TEST_F(UnifiedStageTest, AFreshModelGuessesCodesAndTokensAboutUniformly) {
  const auto stage = make_stage();
  for (int64_t slot = 0; slot < 4; ++slot) {
    const auto batch = stage->load(0, slot);
    const auto losses = stage->losses(*batch, 0);
    for (size_t i = 0; i < losses.size(); ++i) {
      if (!losses[i].defined()) continue;
      const double choices = i == UnifiedStage::kDraw ? 256.0 : 320.0;
      EXPECT_NEAR(losses[i].item<double>() / batch->target_counts[i], std::log(choices), 1.5);
    }
  }
}

TEST_F(UnifiedStageTest, EvaluationDoesNotDependOnTheNumberOfRanks) {
  const auto single = make_stage();
  EvaluationRequest request;
  request.directory = ::testing::TempDir();
  request.picture_prefix = "single";
  request.max_samples = 6;
  const auto expected = single->evaluate(*comm_, request);
  EXPECT_TRUE(std::filesystem::exists(request.directory + "/single-drawn-seen.png"));
  request.picture_prefix = "two";
  auto ranks = make_thread_communicators(2);
  std::vector<nlohmann::json> results(2);
  const auto other = make_stage();
  std::thread helper([&] { results[1] = other->evaluate(*ranks[1], request); });
  const auto mine = make_stage();
  results[0] = mine->evaluate(*ranks[0], request);
  helper.join();
  EXPECT_EQ(results[0]["understanding"], expected["understanding"]);
  EXPECT_NEAR(results[0]["generation"]["draw_psnr_db_seen"].get<double>(),
              expected["generation"]["draw_psnr_db_seen"].get<double>(), 1e-3);
}

TEST_F(UnifiedStageTest, DrawsTheSamePictureForTheSameTextAndSeed) {
  const auto stage = make_stage();
  const auto sampling = stage->default_sampling();
  const auto first = stage->draw({"red heart", "cat"}, sampling, 7);
  const auto again = stage->draw({"red heart", "cat"}, sampling, 7);
  const auto other = stage->draw({"red heart", "cat"}, sampling, 8);
  ASSERT_EQ(first.size(), 2U);
  EXPECT_EQ(first[0].width, 32);
  EXPECT_EQ(first[0].rgb, again[0].rgb);
  EXPECT_NE(first[0].rgb, other[0].rgb);
}

TEST_F(UnifiedStageTest, WritesOneCaptionPerImageOfAnySize) {
  const auto stage = make_stage();
  EXPECT_EQ(stage->caption({blank_image(32, 32), blank_image(50, 20)}).size(), 2U);
}

TEST_F(UnifiedStageTest, WithoutATokenizerStageTheConfigIsRefused) {
  EXPECT_THROW(UnifiedStage(StageContext{config_, config_.stages[1], at::kCPU, *comm_, {}, true}),
               ConfigError);
}

}  // namespace
}  // namespace espalier
