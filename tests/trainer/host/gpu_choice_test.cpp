#include "trainer/host/gpu_choice.h"

#include <gtest/gtest.h>

#include <string>

#include "trainer/errors.h"
#include "trainer/host/backend_choice.h"

namespace espalier {
namespace {

std::string refusal(const std::vector<RankGpu>& ranks) {
  try {
    check_gpu_sharing(ranks, /*may_share=*/false);
    return "";
  } catch (const ConfigError& error) {
    return error.what();
  }
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(ChooseGpu, TakesTheOnlyOneThatTheLauncherShows) {
  const GpuChoice choice = choose_gpu({.count = 1, .setting = "3", .local_rank = 2});
  EXPECT_EQ(choice.index, 0);
  EXPECT_EQ(choice.why, "it is the only one that CUDA_VISIBLE_DEVICES=3 shows");
}

TEST(ChooseGpu, TakesTheOneOfItsLocalRank) {
  const GpuChoice choice = choose_gpu({.count = 4, .setting = "", .local_rank = 2});
  EXPECT_EQ(choice.index, 2);
  EXPECT_EQ(choice.why, "this is rank 2 of its machine, which shows 4");
}

TEST(ChooseGpu, GoesRoundWhenThereAreMoreRanksThanGpus) {
  const GpuChoice choice = choose_gpu({.count = 2, .setting = "0,1", .local_rank = 3});
  EXPECT_EQ(choice.index, 1);
  EXPECT_TRUE(has(choice.why, "go round")) << choice.why;
}

TEST(CheckGpuSharing, LetsEqualNumbersOfDifferentGpusBe) {
  // One GPU per task: each calls its own number 0. And the same identity on another host.
  const std::vector<RankGpu> ranks = {{"a", "gpu-1", 0}, {"a", "gpu-2", 0}, {"b", "gpu-1", 0}};
  EXPECT_EQ(refusal(ranks), "");
  EXPECT_FALSE(check_gpu_sharing(ranks, /*may_share=*/true));
}

TEST(CheckGpuSharing, NamesRanksGpuAndRemedy) {
  const std::string text = refusal({{"a", "gpu-1", 0}, {"b", "gpu-1", 0}, {"a", "gpu-1", 0}});
  EXPECT_TRUE(has(text, "ranks 0 and 2 both took GPU 0 of a (gpu-1)")) << text;
  EXPECT_TRUE(has(text, "--gpus-per-task=1")) << text;
  EXPECT_TRUE(has(text, "compute.share_gpu = true")) << text;
}

TEST(CheckGpuSharing, AllowsItWhereTheConfigDoes) {
  EXPECT_TRUE(check_gpu_sharing({{"a", "gpu-1", 0}, {"a", "gpu-1", 0}}, /*may_share=*/true));
}

TEST(RankGpu, TravelsAsALineOfText) {
  const RankGpu gpu = rank_gpu_of_line(to_line({"node-7", "0000:1b:00.0/GPU-12ab", 5}));
  EXPECT_EQ(gpu.host, "node-7");
  EXPECT_EQ(gpu.identity, "0000:1b:00.0/GPU-12ab");
  EXPECT_EQ(gpu.index, 5);
}

ComputeConfig asking_for(const std::string& communicator) {
  ComputeConfig config;
  config.communicator = communicator;
  return config;
}

TEST(ChooseBackend, NeedsNoneForOneRankUnlessAsked) {
  EXPECT_EQ(choose_backend(asking_for("auto"), {}).backend, Backend::kSingle);
  EXPECT_EQ(choose_backend(asking_for("mpi"), {}).backend, Backend::kMpi);
}

TEST(ChooseBackend, GivesOneRankNcclWhenAsked) {
  const BackendFacts one_gpu = {.world_size = 1, .is_on_gpu = true, .has_nccl = true};
  EXPECT_EQ(choose_backend(asking_for("nccl"), one_gpu).backend, Backend::kNccl);
  EXPECT_EQ(choose_backend(asking_for("auto"), one_gpu).backend, Backend::kSingle);
}

TEST(ChooseBackend, TakesNcclForGpusWhereItCan) {
  BackendFacts facts = {.world_size = 4, .is_on_gpu = true, .has_nccl = true};
  EXPECT_EQ(choose_backend(asking_for("auto"), facts).backend, Backend::kNccl);
  facts.is_gpu_shared = true;
  EXPECT_EQ(choose_backend(asking_for("auto"), facts).backend, Backend::kMpi);
  facts = {.world_size = 4, .is_on_gpu = true, .has_nccl = false};
  EXPECT_EQ(choose_backend(asking_for("auto"), facts).backend, Backend::kMpi);
  facts = {.world_size = 4, .is_on_gpu = false};
  EXPECT_EQ(choose_backend(asking_for("auto"), facts).backend, Backend::kMpi);
}

TEST(ChooseBackend, RefusesNcclWhereItCannotBe) {
  EXPECT_THROW(choose_backend(asking_for("nccl"), {.world_size = 2, .is_on_gpu = false}),
               ConfigError);
  EXPECT_THROW(
      choose_backend(asking_for("nccl"), {.world_size = 2, .is_on_gpu = true, .has_nccl = false}),
      ConfigError);
}

}  // namespace
}  // namespace espalier
