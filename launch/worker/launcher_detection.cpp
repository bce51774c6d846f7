#include "launch/worker/launcher_detection.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "trainer/errors.h"

namespace espalier {
namespace {

int integer(const Environment& get, const char* name, int absent) {
  const char* text = get(name);
  if (text == nullptr) return absent;
  int value = 0;
  const auto [end, error] = std::from_chars(text, text + std::strlen(text), value);
  if (error != std::errc() || *end != '\0' || value < 0) {
    throw ConfigError(std::string(name) + "=" + text + " in the environment is no number");
  }
  return value;
}

RankPlace under_mpirun(const Environment& get) {
  RankPlace place;
  place.launcher = Launcher::kMpirun;
  place.rank = integer(get, "OMPI_COMM_WORLD_RANK", 0);
  place.world_size = integer(get, "OMPI_COMM_WORLD_SIZE", 1);
  place.local_rank = integer(get, "OMPI_COMM_WORLD_LOCAL_RANK", 0);
  place.local_size = integer(get, "OMPI_COMM_WORLD_LOCAL_SIZE", 1);
  place.why = "mpirun: OMPI_COMM_WORLD_RANK=" + std::to_string(place.rank);
  return place;
}

// Tasks on this node, from "4" or "4(x2),3": the first number is right wherever tasks are spread
// evenly, and only shares cores.
int slurm_local_size(const Environment& get) {
  const char* text = get("SLURM_STEP_TASKS_PER_NODE");
  return text == nullptr ? 1 : std::max(1, std::atoi(text));
}

RankPlace under_srun(const Environment& get, const std::string& wire_up) {
  RankPlace place;
  place.launcher = Launcher::kSrun;
  place.rank = integer(get, "SLURM_PROCID", 0);
  place.world_size = integer(get, "SLURM_STEP_NUM_TASKS", 1);
  place.local_rank = integer(get, "SLURM_LOCALID", 0);
  place.local_size = slurm_local_size(get);
  place.why = "srun: SLURM_PROCID=" + std::to_string(place.rank) + " with " + wire_up;
  return place;
}

// Hydra sets MPI_LOCAL...; MVAPICH's own launcher the other two.
RankPlace under_mpiexec(const Environment& get) {
  RankPlace place;
  place.launcher = Launcher::kMpiexec;
  place.rank = integer(get, "PMI_RANK", 0);
  place.world_size = integer(get, "PMI_SIZE", 1);
  place.local_rank = integer(get, "MPI_LOCALRANKID", integer(get, "MV2_COMM_WORLD_LOCAL_RANK", 0));
  place.local_size = integer(get, "MPI_LOCALNRANKS", integer(get, "MV2_COMM_WORLD_LOCAL_SIZE", 1));
  place.why = "mpiexec (PMI): PMI_RANK=" + std::to_string(place.rank);
  return place;
}

RankPlace alone(const std::string& why) {
  RankPlace place;
  place.why = "no launcher: " + why;
  return place;
}

// A batch script has SLURM_PROCID=0 too, but only an srun step has a step's launch node port.
bool is_in_step(const Environment& get) {
  return get("SLURM_PROCID") != nullptr && get("SLURM_STEP_NUM_TASKS") != nullptr &&
         get("SLURM_SRUN_COMM_PORT") != nullptr;
}

RankPlace in_step(const Environment& get) {
  if (get("PMIX_RANK") != nullptr) return under_srun(get, "PMIx");
  if (get("PMI_RANK") != nullptr) return under_srun(get, "PMI-2");
  if (integer(get, "SLURM_STEP_NUM_TASKS", 1) > 1) {
    throw ConfigError(
        "srun started several tasks without PMIx, so they cannot find each other; use "
        "srun --mpi=pmix");
  }
  return alone("a single task of srun, without PMIx");
}

}  // namespace

RankPlace detect_launcher(const Environment& get) {
  RankPlace place;
  // The innermost first: mpirun may run in a batch script or in a step.
  if (get("OMPI_COMM_WORLD_RANK") != nullptr) {
    place = under_mpirun(get);
  } else if (is_in_step(get)) {
    place = in_step(get);
  } else if (get("PMI_RANK") != nullptr && get("PMI_SIZE") != nullptr) {
    place = under_mpiexec(get);
  } else {
    place = alone("none of OMPI_COMM_WORLD_RANK, PMI_RANK and an srun step is set");
  }
  if (const char* coordinator = get("ESPALIER_COORDINATOR"); coordinator != nullptr) {
    place.coordinator = coordinator;
    place.generation = static_cast<uint32_t>(integer(get, "ESPALIER_GENERATION", 1));
    place.why += ", and a coordinator: ESPALIER_COORDINATOR=" + place.coordinator +
                 ", generation " + std::to_string(place.generation);
  }
  return place;
}

}  // namespace espalier
