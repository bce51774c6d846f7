#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "trainer/objectives/world_model/world_model.h"

namespace espalier {

// Whose episode: the order of rows in ClosedLoop::success.
enum ClosedLoopActor { kByPolicy = 0, kAtRandom = 1, kByExpert = 2, kActors = 3 };

// One episode as the policy saw it: first view of T steps.
struct Film {
  std::string instruction;
  bool success = false;
  std::vector<at::Tensor> frames;  // (3, S, S) uint8
  std::vector<at::Tensor> dreamt;  // (patches, 3 patch^2) fp32, made at each; empty without
};

struct ClosedLoop {
  std::vector<std::string> tasks;
  at::Tensor success;       // (kActors, tasks, rollouts) fp32: 1 or 0
  at::Tensor steps;         // (tasks, rollouts) fp32: of the policy's episodes
  std::vector<Film> films;  // one success and one failure, where rank 0 saw them
  std::string error;        // not empty: a simulator failed, and the rest means nothing
};

// Lets the model act in the simulator, on unseen seeds, the same for the policy, random actions and
// the expert. Tasks and seeds are split over the ranks; what comes out does not depend on their
// number. A SimulatorError of any rank ends up in `error` on all. Collective.
ClosedLoop run_closed_loop(WorldModelObjective& objective);

// Success rates with their intervals and baselines, filmstrips of rank 0.
void report_closed_loop(const WorldModelObjective& objective, const ClosedLoop& result,
                        const EvaluationRequest& request, Section& section);

}  // namespace espalier
