#pragma once

#include <string>

#include "comm/communicator.h"
#include "trainer/config/run_config.h"
#include "trainer/run_observer.h"

namespace espalier {

struct RunOptions {
  int generation = 0;  // 0 = one more than the last that run.json knows
  int local_rank = 0;  // among the ranks of this machine: which GPU
  int local_size = 1;  // shares the cores
  // Of host memory, between the same ranks: what they agree on before every step goes over it. Null
  // = the communicator of the gradients, which is right unless that is a GPU's own.
  Communicator* control = nullptr;
  // The run goes on with more steps or stages than it was begun with.
  bool extends = false;
  std::string fork_from = {};      // "RUN" or "RUN@STEP": begin with its weights; "" = random ones
  std::string commit = "unknown";  // of the program
};

enum class RunOutcome { kFinished, kStopped };

// Trains all stages from where the run directory's checkpoints end. Every rank calls it with the
// same config. Stopped means that a committed checkpoint holds all work done.
//
// Throws ConfigError, DataError and WeightsError for what the user can fix, DoNotRequeueError when
// starting again is no use, CommError when a peer is gone.
RunOutcome run_training(const RunConfig& config, Communicator& comm, RunObserver& observer,
                        const RunOptions& options = {});

}  // namespace espalier
