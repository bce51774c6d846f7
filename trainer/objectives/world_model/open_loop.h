#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "trainer/evaluation/section.h"
#include "trainer/objectives/world_model/world_model.h"

namespace espalier {

// What simple guesses are made of: means over training episodes. The same on every rank.
struct TrainingMeans {
  at::Tensor action;      // (A) fp32
  at::Tensor frame;       // (V, 3, S, S) uint8
  at::Tensor depth;       // (D, S, S) fp32; undefined without depth
  at::Tensor trajectory;  // (J, patches, values of a patch) fp32; undefined where none is dreamt
};
TrainingMeans training_means(WorldModelObjective& objective);

// Held-out episodes step by step, seen as experts went through them: losses, the next action, and
// dreams, beside simple guesses. Collective; metrics and series are valid on rank 0.
void measure_open_loop(WorldModelObjective& objective, const EpisodeSet& set,
                       const EpisodeWindows& windows, const TrainingMeans& means, Section& section);

// Rows of present frames, of what came, and of what was dreamt; depth likewise. On one rank.
void paint_open_loop(WorldModelObjective& objective, const EpisodeSet& set,
                     const EpisodeWindows& windows, const EvaluationRequest& request,
                     Section& section);

}  // namespace espalier
