#pragma once

#include <functional>
#include <memory>

#include "comm/communicator.h"
#include "trainer/config/run_config.h"
#include "trainer/run_observer.h"
#include "trainer/stage.h"

namespace espalier {

using StageFactory = std::function<std::unique_ptr<Stage>(const StageContext&)>;

// By the stage's kind.
std::unique_ptr<Stage> make_stage(const StageContext& context);

struct RunOptions {
  int generation = 0;  // 0 = one more than the last that run.json knows
  int local_rank = 0;  // among the ranks of this machine: which GPU
  int local_size = 1;  // shares the cores
  StageFactory make_stage = espalier::make_stage;
};

enum class RunOutcome { kFinished, kStopped };

// Trains all stages from where the run directory's checkpoints end. Every rank calls it with the
// same config. Stopped means that a committed checkpoint holds all work done.
//
// Throws ConfigError, DataError and WeightsError for what the user can fix, DoNotRequeueError when
// starting again is no use, CommError when a peer is gone.
RunOutcome run_training(const RunConfig& config, Communicator& comm, RunObserver& observer,
                        const RunOptions& options = {});

at::Device choose_device(const ComputeConfig& config, int local_rank);

// Makes it the current device of this thread, with kernels that give the same bits in every run.
void use_device(at::Device device);

}  // namespace espalier
