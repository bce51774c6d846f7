#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace espalier {

enum class Launcher {
  kNone,
  kMpirun,   // Open MPI's
  kMpiexec,  // one that speaks PMI: Hydra, of MPICH, Intel MPI and MVAPICH
  kSrun,     // Slurm's, with PMIx or PMI-2
};

// Who started this process, as far as its environment tells, before MPI is asked.
struct RankPlace {
  Launcher launcher = Launcher::kNone;
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  int local_size = 1;
  std::string coordinator;  // its address file; empty without one
  uint32_t generation = 0;  // 0: no coordinator counts them
  std::string why;          // for people: what was seen
};

using Environment = std::function<const char*(const char*)>;  // std::getenv, or a test's

// Throws ConfigError for what cannot work: several srun tasks without PMIx, numbers that are none.
RankPlace detect_launcher(const Environment& get);

}  // namespace espalier
