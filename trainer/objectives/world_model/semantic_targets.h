#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>

#include "models/teachers/teacher.h"
#include "trainer/named/named_things.h"
#include "trainer/objectives/world_model/windows.h"

namespace espalier {

struct SemanticOptions {
  std::string teacher;     // by name; "" = the simulator's segmentation
  int64_t memory_mib = 0;  // of features that are kept
  std::string asked_by;    // for messages
};

// What semantic queries dream of: features of a frozen teacher in the future frames, or what share
// of each cell the simulator's objects take. Centred by their mean over training frames.
class SemanticTargets {
 public:
  // ConfigError when teacher or segmentation do not fit the model.
  SemanticTargets(NamedThings& things, WorldModel& model, SemanticOptions options);

  // (channels), of at most kMeanFrames training frames; the same on every rank.
  at::Tensor measure_mean(const EpisodeSet& train);
  // (M * views, side * side, channels) fp32 on the CPU, less `mean`. `keep`: teacher features of
  // these frames may be asked for again. They are made one step at a time, so that they are the
  // same whenever they are made. With `keep` for one thread at a time.
  at::Tensor make(const WindowBatch& batch, const at::Tensor& mean, bool keep);

 private:
  at::Tensor of_step(const at::Tensor& frames) const;  // (V, 3, S, S) -> (V, side^2, C) bf16
  at::Tensor of_segmentation(const at::Tensor& segmentation) const;
  at::Tensor raw(const WindowBatch& batch, bool keep);

  WorldModel& model_;
  SemanticOptions options_;
  const Teacher* teacher_ = nullptr;
  std::optional<c10::Stream> stream_;  // of a GPU: where the teacher runs
  std::vector<at::Tensor> kept_;       // by step of the training split
  int64_t kept_bytes_ = 0;
};

}  // namespace espalier
