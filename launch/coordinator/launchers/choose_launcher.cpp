#include <utility>

#include "launch/coordinator/launchers/launcher.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

constexpr std::pair<LauncherKind, std::string_view> kLauncherNames[] = {
    {LauncherKind::kAuto, "auto"},
    {LauncherKind::kMpirun, "mpirun"},
    {LauncherKind::kSrun, "srun"},
    {LauncherKind::kLocal, "local"},
};

constexpr const char* kNoMpirun =
    "mpirun is not on PATH; install openmpi-bin or load your MPI module";

void check_srun(const MachineView& machine) {
  if (machine.srun.empty()) throw ConfigError("--launcher srun: srun is not on PATH");
  if (machine.slurm.nodes == 0) {
    throw ConfigError(
        "--launcher srun needs a Slurm allocation: sbatch launch/slurm/train.sbatch, or salloc");
  }
  if (!machine.slurm.srun_has_pmix) {
    throw ConfigError(
        "--launcher srun: this Slurm has no PMIx (srun --mpi=list), by which ranks find each "
        "other; use --launcher mpirun");
  }
}

void check_possible(LauncherKind asked, int ranks, bool has_hosts, const MachineView& machine) {
  if (has_hosts && asked != LauncherKind::kMpirun && asked != LauncherKind::kAuto) {
    throw ConfigError("--launcher " + std::string(name_of(asked)) +
                      " does not know --hosts; use --launcher mpirun");
  }
  if (asked == LauncherKind::kMpirun && machine.mpirun.empty()) throw ConfigError(kNoMpirun);
  if (asked == LauncherKind::kSrun) check_srun(machine);
  if (asked == LauncherKind::kLocal && ranks > 1) {
    throw ConfigError("--launcher local starts one rank, not " + std::to_string(ranks) +
                      "; use -n 1 or --launcher mpirun");
  }
}

LauncherChoice choose_in_allocation(int ranks, const MachineView& machine) {
  const SlurmView& slurm = machine.slurm;
  const std::string where =
      slurm.only_this_host ? "the Slurm allocation is this node"
      : slurm.nodes == 1   ? "the Slurm allocation is another node"
                           : "the Slurm allocation has " + std::to_string(slurm.nodes) + " nodes";
  const bool srun_works = !machine.srun.empty() && slurm.srun_has_pmix;
  if (slurm.only_this_host && ranks == 1) return {LauncherKind::kLocal, "one rank, and " + where};
  // On one node mpirun starts faster and needs nothing of the site; over several, srun starts
  // ranks where Slurm put them, with the GPUs and cores that it gave to each.
  if (!slurm.only_this_host && srun_works) {
    return {LauncherKind::kSrun, where + ", and srun offers PMIx"};
  }
  if (!machine.mpirun.empty()) {
    return {LauncherKind::kMpirun, where + (slurm.only_this_host ? "" : ", and srun has no PMIx")};
  }
  if (srun_works) return {LauncherKind::kSrun, where + ", and mpirun is not on PATH"};
  throw ConfigError(where + ", srun has no PMIx, and " + kNoMpirun);
}

}  // namespace

std::string_view name_of(LauncherKind kind) {
  for (const auto& [known, name] : kLauncherNames) {
    if (known == kind) return name;
  }
  return "unknown";
}

LauncherKind parse_launcher(std::string_view name) {
  for (const auto& [kind, known] : kLauncherNames) {
    if (known == name) return kind;
  }
  throw ConfigError("--launcher " + std::string(name) +
                    ": there is no such launcher; there are auto, mpirun, srun and local");
}

LauncherChoice choose_launcher(LauncherKind asked, int ranks, bool has_hosts,
                               const MachineView& machine) {
  check_possible(asked, ranks, has_hosts, machine);
  if (asked != LauncherKind::kAuto) {
    return {asked, "--launcher " + std::string(name_of(asked))};
  }
  if (has_hosts) {
    if (machine.mpirun.empty()) throw ConfigError(kNoMpirun);
    return {LauncherKind::kMpirun, "hosts are named"};
  }
  if (machine.slurm.nodes > 0) return choose_in_allocation(ranks, machine);
  if (ranks == 1) return {LauncherKind::kLocal, "one rank needs no launcher"};
  if (machine.mpirun.empty()) throw ConfigError(kNoMpirun);
  return {LauncherKind::kMpirun, "several ranks on this machine"};
}

LaunchCommand launch_command(const LaunchRequest& request, const MachineView& machine) {
  switch (request.launcher) {
    case LauncherKind::kMpirun:
      return mpirun_command(request, machine);
    case LauncherKind::kSrun:
      return srun_command(request, machine);
    case LauncherKind::kLocal:
      return local_command(request, machine);
    case LauncherKind::kAuto:
      break;
  }
  throw std::logic_error("launch_command: the launcher was not chosen");
}

}  // namespace espalier
