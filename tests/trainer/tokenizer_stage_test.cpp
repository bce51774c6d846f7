#include "trainer/tokenizer_stage.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "comm/transport/single_communicator.h"
#include "comm/transport/thread_communicator.h"
#include "models/errors.h"
#include "toy_stage.h"
#include "trainer/errors.h"
#include "trainer/teacher_features.h"

namespace espalier {
namespace {

// A small tokenizer on the committed emoji of the test split, without a teacher.
RunConfig small_config() {
  RunConfig config;
  const std::string shard = std::string(ESPALIER_SOURCE_DIR) + "/data/emoji/emoji-32-test.tar";
  config.data.train = config.data.test = {shard};
  config.tokenizer.width = 8;
  config.tokenizer.latent_channels = 4;
  config.tokenizer.codebook_size = 16;
  config.tokenizer.encoder_blocks = config.tokenizer.decoder_blocks = 1;
  config.tokenizer.masked_width = 8;
  StageConfig stage;
  stage.name = stage.kind = "tokenizer";
  stage.batch_size = 16;
  stage.micro_batch_size = 4;
  stage.loss = tokenizer_losses();
  config.stages = {stage};
  return config;
}

std::unique_ptr<TokenizerStage> make(const RunConfig& config, Communicator& comm) {
  return std::make_unique<TokenizerStage>(
      StageContext{config, config.stages[0], at::kCPU, comm, {}, true});
}

// Runs one step's slots of this rank without touching the weights; returns the codebooks after it.
at::Tensor codebooks_after_step(TokenizerStage* stage, int64_t slots, Communicator& comm) {
  const int64_t per_rank = slots / comm.size();
  for (int64_t i = 0; i < per_rank; ++i) {
    stage->losses(*stage->load(0, comm.rank() * per_rank + i), 0);
  }
  stage->after_optimizer(comm, 0);
  return stage->tokenizer()->codebooks().clone();
}

TEST(TokenizerStage, SlotsAreAPureFunctionOfStepAndSlot) {
  const RunConfig config = small_config();
  const auto comm = make_single_communicator();
  const auto first = make(config, *comm), second = make(config, *comm);
  second->load(0, 0);
  const auto a = first->load(3, 1), b = second->load(3, 1), other = second->load(3, 2);
  const auto inputs = [](const std::unique_ptr<MicroBatch>& batch) -> const TokenizerBatch& {
    return dynamic_cast<const TokenizerMicroBatch&>(*batch).inputs;
  };
  EXPECT_TRUE(torch::equal(inputs(a).images, inputs(b).images));
  EXPECT_TRUE(torch::equal(inputs(a).grid.visible, inputs(b).grid.visible));
  EXPECT_TRUE(torch::equal(inputs(a).pixel_depth, inputs(b).pixel_depth));
  EXPECT_FALSE(torch::equal(inputs(a).images, inputs(other).images));
  EXPECT_EQ(a->target_counts,
            (std::vector<double>{4 * 3072.0, 4 * 64 * 6 * 4.0, 0.0, 0.0, 4 * 48 * 48.0}))
      << "without a teacher nothing is to be mimicked";
}

TEST(TokenizerStage, EveryDeadCodeIsOfferedExactlyOneVectorOfTheStep) {
  const RunConfig config = small_config();
  const auto comm = make_single_communicator();
  const auto stage = make(config, *comm);
  at::Tensor offers = torch::zeros({6, 16}, at::kLong);
  for (int64_t slot = 0; slot < 4; ++slot) {
    const auto batch = stage->load(5, slot);
    const at::Tensor& rows = dynamic_cast<const TokenizerMicroBatch&>(*batch).candidate_rows;
    offers += rows.ge(0).to(at::kLong);
    EXPECT_TRUE(rows.lt(4 * 64).all().item<bool>());
  }
  EXPECT_TRUE(offers.eq(1).all().item<bool>());
}

TEST(TokenizerStage, CodebooksDoNotDependOnTheNumberOfRanks) {
  const RunConfig config = small_config();
  const auto single = make_single_communicator();
  const int64_t slots = config.stages[0].slots();
  const at::Tensor expected = codebooks_after_step(make(config, *single).get(), slots, *single);
  const auto comms = make_thread_communicators(2);
  // Made one after the other: threads share the generator that weights are drawn from.
  const auto first = make(config, *comms[0]), second = make(config, *comms[1]);
  std::vector<at::Tensor> got(2);
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      got[rank] = codebooks_after_step(rank == 0 ? first.get() : second.get(), slots, *comms[rank]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(torch::equal(got[0], got[1]));
  EXPECT_TRUE(torch::allclose(got[0], expected, 1e-4, 1e-5));
}

TEST(TokenizerStage, EvaluationReportsEveryStageAndWritesASheet) {
  const RunConfig config = small_config();
  const auto comm = make_single_communicator();
  const auto stage = make(config, *comm);
  EvaluationRequest request;
  request.directory = fresh_directory("evaluation");
  std::filesystem::create_directories(request.directory);
  request.picture_prefix = "tokenizer";
  request.is_final = true;
  request.max_samples = 20;
  const nlohmann::json report = stage->evaluate(*comm, request);
  const nlohmann::json& tokenizer = report.at("tokenizer");
  EXPECT_EQ(tokenizer.at("psnr_db_by_stage").size(), 4U);
  EXPECT_EQ(tokenizer.at("code_usage_by_stage").size(), 6U);
  EXPECT_EQ(tokenizer.at("group_knn_by_stage").size(), 6U);
  EXPECT_NEAR(tokenizer.at("psnr_db_mean_image").get<double>(), 11.6, 1.5);
  EXPECT_FALSE(tokenizer.contains("mimic_cosine")) << "there is no teacher";
  EXPECT_TRUE(std::filesystem::exists(report.at("pictures").at(0).get<std::string>()));
}

TEST(TokenizerStage, MissingTeacherAndWrongSizesAreTheUsersToFix) {
  RunConfig config = small_config();
  const auto comm = make_single_communicator();
  config.teacher.weights = "nowhere/teacher.safetensors";
  try {
    make(config, *comm);
    FAIL() << "no error";
  } catch (const WeightsError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("nowhere/teacher.safetensors"), std::string::npos) << message;
    EXPECT_NE(message.find("prepare_teacher.py"), std::string::npos) << message;
  }
  config = small_config();
  config.tokenizer.latent_size = 16;
  EXPECT_THROW(make(config, *comm), ConfigError);
  config = small_config();
  config.teacher.image_size = 96;
  EXPECT_THROW(make(config, *comm), ConfigError);
}

// Weights of the right shapes; what they compute does not matter here.
std::string write_teacher(const std::string& directory) {
  const std::string golden =
      std::string(ESPALIER_SOURCE_DIR) + "/tests/parity/golden/efficientnet_lite.safetensors";
  std::filesystem::create_directories(directory);
  torch::manual_seed(1);
  TensorMap weights;
  for (const auto& [name, shape] : read_safetensors(golden)) {
    if (!name.starts_with("shape.")) continue;
    const auto* data = shape.const_data_ptr<int64_t>();
    const std::vector<int64_t> sizes(data, data + shape.numel());
    weights[name.substr(6)] = torch::rand(sizes) * (sizes.size() == 4 ? 0.1 : 1.0);
  }
  const std::string path = directory + "/teacher.safetensors";
  write_safetensors(path, weights);
  return path;
}

TEST(TeacherFeatures, AreKeptAndMadeAnewForOtherImages) {
  const std::string directory = fresh_directory("teacher");
  TeacherConfig teacher;
  teacher.weights = write_teacher(directory);
  teacher.image_size = 64;
  const std::string cache = directory + "/cache/features.safetensors";
  const auto comm = make_single_communicator();
  const at::Tensor images = torch::randint(256, {3, 3, 32, 32}).to(at::kByte);

  const at::Tensor made = teacher_features(*comm, teacher, images, "one", true, cache);
  EXPECT_EQ(made.sizes(), (std::vector<int64_t>{3, 2, 4, 1280}));
  EXPECT_TRUE(torch::equal(
      made.select(1, 1),
      teacher_features(*comm, teacher, images.flip({3}), "flipped", false, "").select(1, 0)));

  // The file is believed as long as it says what is asked for, and only then.
  write_safetensors(cache, {{"features", torch::zeros_like(made)}},
                    read_safetensors_metadata(cache));
  EXPECT_EQ(
      teacher_features(*comm, teacher, images, "one", true, cache).count_nonzero().item<int64_t>(),
      0);
  EXPECT_TRUE(torch::equal(teacher_features(*comm, teacher, images, "two", true, cache), made));
  std::ofstream(cache) << "damaged";
  EXPECT_TRUE(torch::equal(teacher_features(*comm, teacher, images, "two", true, cache), made));
}

TEST(TeacherFeatures, DoNotDependOnTheNumberOfRanks) {
  const std::string directory = fresh_directory("ranks");
  TeacherConfig teacher;
  teacher.weights = write_teacher(directory);
  teacher.image_size = 64;
  const at::Tensor images = torch::randint(256, {5, 3, 32, 32}).to(at::kByte);
  const auto single = make_single_communicator();
  const at::Tensor expected = teacher_features(*single, teacher, images, "x", false, "");
  const auto comms = make_thread_communicators(3);
  std::vector<at::Tensor> got(3);
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < 3; ++rank) {
    threads.emplace_back(
        [&, rank] { got[rank] = teacher_features(*comms[rank], teacher, images, "x", false, ""); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const at::Tensor& features : got) {
    EXPECT_TRUE(torch::allclose(features.to(at::kFloat), expected.to(at::kFloat), 1e-2, 1e-3));
  }
}

}  // namespace
}  // namespace espalier
