#include "launch/worker/launcher_detection.h"

#include <gtest/gtest.h>

#include <map>

#include "trainer/errors.h"

namespace espalier {
namespace {

RankPlace detect(const std::map<std::string, std::string>& variables) {
  return detect_launcher([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

TEST(LauncherDetection, FindsOneRankWhereThereIsNoLauncher) {
  const RankPlace place = detect({});
  EXPECT_EQ(place.launcher, Launcher::kNone);
  EXPECT_EQ(place.world_size, 1);
  EXPECT_NE(place.why.find("no launcher"), std::string::npos);
}

TEST(LauncherDetection, SeesMpirunByItsRankVariable) {
  const RankPlace place = detect({{"OMPI_COMM_WORLD_RANK", "3"},
                                  {"OMPI_COMM_WORLD_SIZE", "8"},
                                  {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                  {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}});
  EXPECT_EQ(place.launcher, Launcher::kMpirun);
  EXPECT_EQ(place.rank, 3);
  EXPECT_EQ(place.world_size, 8);
  EXPECT_EQ(place.local_rank, 1);
  EXPECT_EQ(place.local_size, 2);
}

TEST(LauncherDetection, SeesSrunOnlyWithPmix) {
  const std::map<std::string, std::string> step = {{"SLURM_PROCID", "1"},
                                                   {"SLURM_STEP_NUM_TASKS", "4"},
                                                   {"SLURM_SRUN_COMM_PORT", "4000"},
                                                   {"SLURM_LOCALID", "1"},
                                                   {"SLURM_STEP_TASKS_PER_NODE", "2(x2)"}};
  EXPECT_THROW(detect(step), ConfigError);
  auto with_pmix = step;
  with_pmix["PMIX_RANK"] = "1";
  const RankPlace place = detect(with_pmix);
  EXPECT_EQ(place.launcher, Launcher::kSrun);
  EXPECT_EQ(place.world_size, 4);
  EXPECT_EQ(place.local_size, 2);
}

TEST(LauncherDetection, SeesSrunWithPmi2AsSrun) {
  const RankPlace place = detect({{"SLURM_PROCID", "3"},
                                  {"SLURM_STEP_NUM_TASKS", "4"},
                                  {"SLURM_SRUN_COMM_PORT", "4000"},
                                  {"SLURM_LOCALID", "1"},
                                  {"PMI_RANK", "3"},
                                  {"PMI_SIZE", "4"}});
  EXPECT_EQ(place.launcher, Launcher::kSrun);
  EXPECT_EQ(place.rank, 3);
  EXPECT_NE(place.why.find("PMI-2"), std::string::npos);
}

TEST(LauncherDetection, SeesMpiexecOfTheMpichFamilyByItsPmiVariables) {
  const RankPlace place = detect(
      {{"PMI_RANK", "5"}, {"PMI_SIZE", "8"}, {"MPI_LOCALRANKID", "1"}, {"MPI_LOCALNRANKS", "4"}});
  EXPECT_EQ(place.launcher, Launcher::kMpiexec);
  EXPECT_EQ(place.rank, 5);
  EXPECT_EQ(place.world_size, 8);
  EXPECT_EQ(place.local_rank, 1);
  EXPECT_EQ(place.local_size, 4);
  EXPECT_NE(place.why.find("mpiexec (PMI): PMI_RANK=5"), std::string::npos);
}

TEST(LauncherDetection, BelievesMpirunWithinASlurmStep) {
  const RankPlace place = detect({{"OMPI_COMM_WORLD_RANK", "1"},
                                  {"OMPI_COMM_WORLD_SIZE", "2"},
                                  {"SLURM_PROCID", "0"},
                                  {"SLURM_STEP_NUM_TASKS", "1"},
                                  {"SLURM_SRUN_COMM_PORT", "4000"}});
  EXPECT_EQ(place.launcher, Launcher::kMpirun);
  EXPECT_EQ(place.rank, 1);
}

TEST(LauncherDetection, TakesASingleTaskOfSrunForOneRankAlone) {
  const RankPlace place = detect(
      {{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_SRUN_COMM_PORT", "4000"}});
  EXPECT_EQ(place.launcher, Launcher::kNone);
  EXPECT_EQ(place.world_size, 1);
  EXPECT_NE(place.why.find("a single task of srun"), std::string::npos);
}

TEST(LauncherDetection, DoesNotTakeASlurmBatchScriptForARank) {
  EXPECT_EQ(detect({{"SLURM_PROCID", "0"}, {"SLURM_JOB_ID", "7"}}).launcher, Launcher::kNone);
}

TEST(LauncherDetection, NamesTheCoordinatorAndItsGeneration) {
  const RankPlace place = detect({{"OMPI_COMM_WORLD_RANK", "0"},
                                  {"OMPI_COMM_WORLD_SIZE", "2"},
                                  {"ESPALIER_COORDINATOR", "/runs/x/coordinator.json"},
                                  {"ESPALIER_GENERATION", "4"}});
  EXPECT_EQ(place.coordinator, "/runs/x/coordinator.json");
  EXPECT_EQ(place.generation, 4u);
  EXPECT_NE(place.why.find("generation 4"), std::string::npos);
}

TEST(LauncherDetection, RefusesARankThatIsNotANumber) {
  EXPECT_THROW(detect({{"OMPI_COMM_WORLD_RANK", "one"}}), ConfigError);
}

}  // namespace
}  // namespace espalier
