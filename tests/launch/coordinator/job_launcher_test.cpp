#include "launch/coordinator/job_launcher.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

namespace espalier {
namespace {

LaunchRequest two_ranks() {
  LaunchRequest request;
  request.ranks = 2;
  request.program = "/opt/espalier";
  request.arguments = {"train", "my config.toml", "--set", "seed=1"};
  request.scratch_directory = "/run/tmp";
  request.environment = {{"ESPALIER_COORDINATOR", "/run/coordinator.json"}};
  return request;
}

bool has(const std::vector<std::string>& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

TEST(MpirunArguments, AllowRootOnlyForRoot) {
  EXPECT_TRUE(has(mpirun_arguments(two_ranks(), {true, 8, {}}), "--allow-run-as-root"));
  EXPECT_FALSE(has(mpirun_arguments(two_ranks(), {false, 8, {}}), "--allow-run-as-root"));
}

TEST(MpirunArguments, OversubscribeOnlyWhenRanksExceedCores) {
  EXPECT_TRUE(has(mpirun_arguments(two_ranks(), {false, 1, {}}), "--oversubscribe"));
  EXPECT_FALSE(has(mpirun_arguments(two_ranks(), {false, 2, {}}), "--oversubscribe"));
}

TEST(MpirunArguments, EndWithTheProgramsArgumentsWholeAndInOrder) {
  const auto arguments = mpirun_arguments(two_ranks(), {false, 2, {}});
  const std::vector<std::string> tail(arguments.end() - 5, arguments.end());
  EXPECT_EQ(tail, (std::vector<std::string>{"/opt/espalier", "train", "my config.toml", "--set",
                                            "seed=1"}));
}

TEST(RankEnvironment, HandsDownWhatIsNeededAndNothingElse) {
  const MachineView machine{false,
                            2,
                            {"PATH=/bin", "AWS_SECRET=x", "OMPI_COMM_WORLD_RANK=3", "PMIX_RANK=3",
                             "OMP_NUM_THREADS=1", "ESPALIER_COORDINATOR=/old"}};
  const auto environment = rank_environment(two_ranks(), machine);
  EXPECT_EQ(environment, (std::vector<std::string>{"PATH=/bin", "OMP_NUM_THREADS=1",
                                                   "ESPALIER_COORDINATOR=/run/coordinator.json"}));
}

TEST(ProcessStartTime, TellsALivingProcessFromARecycledPid) {
  const uint64_t start = process_start_time(::getpid());
  EXPECT_GT(start, 0u);
  EXPECT_TRUE(is_alive(::getpid(), start));
  EXPECT_FALSE(is_alive(::getpid(), start + 1));
  EXPECT_FALSE(is_alive(0, 0));
}

}  // namespace
}  // namespace espalier
