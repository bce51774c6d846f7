#include <gtest/gtest.h>

#include <algorithm>

#include "launch/coordinator/launchers/handed_down.h"
#include "launch/coordinator/launchers/launcher.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

using Words = std::vector<std::string>;

LaunchRequest two_ranks() {
  LaunchRequest request;
  request.ranks = 2;
  request.program = "/opt/espalier";
  request.arguments = {"train", "my config.toml", "--set", "seed=1"};
  request.scratch_directory = "/run/tmp";
  request.environment = {{"ESPALIER_COORDINATOR", "/run/coordinator.json"}};
  return request;
}

LaunchRequest two_hosts() {
  LaunchRequest request = two_ranks();
  request.hosts = {{"alpha", 1}, {"beta", 2}};
  return request;
}

MachineView machine_of(int cores) {
  MachineView machine;
  machine.physical_cores = cores;
  machine.mpirun = "/usr/bin/mpirun";
  return machine;
}

MachineView allocation_of(int nodes, int tasks) {
  MachineView machine = machine_of(2);
  machine.srun = "/usr/bin/srun";
  machine.slurm.nodes = nodes;
  machine.slurm.tasks = tasks;
  machine.slurm.only_this_host = nodes == 1;
  machine.slurm.srun_has_pmix = true;
  return machine;
}

bool has(const Words& list, const Words& part) {
  return std::search(list.begin(), list.end(), part.begin(), part.end()) != list.end();
}

Words mpirun(const LaunchRequest& request, const MachineView& machine) {
  return mpirun_command(request, machine).arguments;
}
Words srun(const LaunchRequest& request, const MachineView& machine) {
  return srun_command(request, machine).arguments;
}

TEST(Mpirun, AllowsRootOnlyForRoot) {
  MachineView machine = machine_of(8);
  EXPECT_FALSE(has(mpirun(two_ranks(), machine), {"--allow-run-as-root"}));
  machine.is_root = true;
  EXPECT_TRUE(has(mpirun(two_ranks(), machine), {"--allow-run-as-root"}));
}

TEST(Mpirun, OversubscribesOnlyWhenRanksExceedCores) {
  EXPECT_TRUE(has(mpirun(two_ranks(), machine_of(1)), {"--oversubscribe"}));
  EXPECT_FALSE(has(mpirun(two_ranks(), machine_of(2)), {"--oversubscribe"}));
}

TEST(Mpirun, CountsTheTasksOfAnAllocationAsItsSlots) {
  EXPECT_TRUE(has(mpirun(two_ranks(), allocation_of(1, 1)), {"--oversubscribe"}));
  EXPECT_FALSE(has(mpirun(two_ranks(), allocation_of(1, 2)), {"--oversubscribe"}));
}

TEST(Mpirun, EndsWithTheProgramsArgumentsWholeAndInOrder) {
  const auto arguments = mpirun(two_ranks(), machine_of(2));
  EXPECT_EQ(Words(arguments.end() - 5, arguments.end()),
            (Words{"/opt/espalier", "train", "my config.toml", "--set", "seed=1"}));
}

TEST(Mpirun, KeepsRanksOfOneHostToSharedMemoryUnlessTheUserSaysOtherwise) {
  LaunchRequest request = two_ranks();
  request.shared_memory_directory = "/dev/shm/own";
  const auto arguments = mpirun(request, machine_of(2));
  EXPECT_TRUE(has(arguments, {"--mca", "btl", "self,vader"}));
  EXPECT_TRUE(has(arguments, {"--mca", "btl_vader_backing_directory", "/dev/shm/own"}));
  request.extra_launcher_arguments = {"--mca", "btl", "self,tcp"};
  EXPECT_FALSE(has(mpirun(request, machine_of(2)), {"--mca", "btl", "self,vader"}));
}

TEST(Mpirun, CarriesToNamedHostsWhatTheirDaemonsDoNotInherit) {
  MachineView machine = machine_of(2);
  machine.environment = {"OMP_NUM_THREADS=2", "NCCL_DEBUG=INFO", "TMPDIR=/here",
                         "AWS_SECRET=x",      "HOME=/root",      "LD_LIBRARY_PATH=/opt/lib"};
  const auto arguments = mpirun(two_hosts(), machine);
  EXPECT_TRUE(has(arguments, {"--host", "alpha:1,beta:2"}));
  for (const char* name :
       {"OMP_NUM_THREADS", "NCCL_DEBUG", "LD_LIBRARY_PATH", "ESPALIER_COORDINATOR"}) {
    EXPECT_TRUE(has(arguments, {"-x", name})) << name;
  }
  for (const char* name : {"TMPDIR", "AWS_SECRET", "HOME"}) {
    EXPECT_FALSE(has(arguments, {"-x", name})) << name;
  }
}

TEST(Mpirun, LeavesSessionFilesOfOtherHostsToThem) {
  const auto arguments = mpirun(two_hosts(), machine_of(2));
  EXPECT_FALSE(has(arguments, {"orte_tmpdir_base"}));
  EXPECT_FALSE(has(arguments, {"btl_vader_backing_directory"}));
  EXPECT_FALSE(has(arguments, {"self,vader"}));
}

TEST(Mpirun, TellsOtherHostsWhereItIsInstalledAndWhoStartsItsDaemons) {
  LaunchRequest request = two_hosts();
  request.remote_agent = "ssh -q";
  request.network_interfaces = "10.1.0.0/16";
  const auto arguments = mpirun(request, machine_of(2));
  EXPECT_EQ(arguments[0], "/usr/bin/mpirun");
  EXPECT_TRUE(has(arguments, {"--mca", "plm_rsh_agent", "ssh -q"}));
  EXPECT_TRUE(has(arguments, {"--mca", "btl_tcp_if_include", "10.1.0.0/16"}));
}

TEST(Srun, EndsTheStepWithItsFirstDeadRankAndHandsDownOnlyItsOwnEnvironment) {
  MachineView machine = allocation_of(2, 4);
  machine.environment = {"AWS_SECRET=x", "SLURM_JOB_ID=7"};
  const LaunchCommand command = srun_command(two_ranks(), machine);
  EXPECT_EQ(command.program, "/usr/bin/srun");
  for (const char* word :
       {"--mpi=pmix", "--ntasks=2", "--kill-on-bad-exit=1", "--export=ALL", "--cpu-bind=none"}) {
    EXPECT_TRUE(has(command.arguments, {word})) << word;
  }
  EXPECT_EQ(command.environment,
            (Words{"SLURM_JOB_ID=7", "ESPALIER_COORDINATOR=/run/coordinator.json"}));
}

TEST(Srun, PassesOnTheCoresThatAJobAskedForEachTask) {
  MachineView machine = allocation_of(2, 4);
  machine.slurm.cpus_per_task = "8";
  EXPECT_TRUE(has(srun(two_ranks(), machine), {"--cpus-per-task=8"}));
  EXPECT_FALSE(has(srun(two_ranks(), machine), {"--cpu-bind=none"}));
}

TEST(Srun, SharesWhatTheStepHoldsInWhichTheCoordinatorRuns) {
  MachineView machine = allocation_of(2, 4);
  EXPECT_FALSE(has(srun(two_ranks(), machine), {"--overlap"}));
  machine.slurm.in_step = true;
  EXPECT_TRUE(has(srun(two_ranks(), machine), {"--overlap"}));
}

TEST(Local, IsTheProgramItself) {
  const LaunchCommand command = local_command(two_ranks(), machine_of(2));
  EXPECT_EQ(command.program, "/opt/espalier");
  EXPECT_EQ(command.arguments,
            (Words{"/opt/espalier", "train", "my config.toml", "--set", "seed=1"}));
}

TEST(RankEnvironment, HandsDownWhatIsNeededAndNothingElse) {
  MachineView machine = machine_of(2);
  machine.environment = {"PATH=/bin",   "AWS_SECRET=x",      "OMPI_COMM_WORLD_RANK=3",
                         "PMIX_RANK=3", "OMP_NUM_THREADS=1", "ESPALIER_COORDINATOR=/old"};
  EXPECT_EQ(
      rank_environment(two_ranks(), machine),
      (Words{"PATH=/bin", "OMP_NUM_THREADS=1", "ESPALIER_COORDINATOR=/run/coordinator.json"}));
}

LauncherKind automatic(int ranks, const MachineView& machine, bool has_hosts = false) {
  return choose_launcher(LauncherKind::kAuto, ranks, has_hosts, machine).kind;
}

TEST(ChooseLauncher, StartsOneRankDirectlyAndSeveralByMpirun) {
  EXPECT_EQ(automatic(1, machine_of(2)), LauncherKind::kLocal);
  EXPECT_EQ(automatic(2, machine_of(2)), LauncherKind::kMpirun);
  EXPECT_EQ(automatic(1, machine_of(2), /*has_hosts=*/true), LauncherKind::kMpirun);
}

TEST(ChooseLauncher, TakesSrunOnSeveralNodesAndMpirunOnOne) {
  EXPECT_EQ(automatic(4, allocation_of(1, 4)), LauncherKind::kMpirun);
  EXPECT_EQ(automatic(4, allocation_of(2, 4)), LauncherKind::kSrun);
  EXPECT_NE(choose_launcher(LauncherKind::kAuto, 4, false, allocation_of(2, 4))
                .why.find("has 2 nodes, and srun offers PMIx"),
            std::string::npos);
}

TEST(ChooseLauncher, DoesNotStartARankOnTheLoginNodeOfAnAllocation) {
  MachineView login = allocation_of(1, 1);
  login.slurm.only_this_host = false;
  EXPECT_EQ(automatic(1, login), LauncherKind::kSrun);
}

TEST(ChooseLauncher, FallsBackToWhatTheClusterHas) {
  MachineView machine = allocation_of(2, 4);
  machine.slurm.srun_has_pmix = false;
  EXPECT_EQ(automatic(4, machine), LauncherKind::kMpirun);
  machine = allocation_of(1, 4);
  machine.mpirun.clear();
  EXPECT_EQ(automatic(4, machine), LauncherKind::kSrun);
}

TEST(ChooseLauncher, RefusesWhatCannotWork) {
  const auto choose = [](LauncherKind asked, int ranks, const MachineView& machine) {
    return choose_launcher(asked, ranks, /*has_hosts=*/false, machine);
  };
  EXPECT_THROW(choose(LauncherKind::kLocal, 2, machine_of(2)), ConfigError);
  EXPECT_THROW(choose(LauncherKind::kSrun, 2, machine_of(2)), ConfigError);
  MachineView machine = allocation_of(2, 4);
  machine.slurm.srun_has_pmix = false;
  EXPECT_THROW(choose(LauncherKind::kSrun, 2, machine), ConfigError);
  machine.mpirun.clear();
  EXPECT_THROW(choose(LauncherKind::kMpirun, 2, machine), ConfigError);
  EXPECT_THROW(choose(LauncherKind::kAuto, 2, machine), ConfigError);
  EXPECT_THROW(parse_launcher("slurm"), ConfigError);
}

}  // namespace
}  // namespace espalier
