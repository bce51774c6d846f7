#pragma once

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"
#include "models/teachers/teacher.h"
#include "trainer/run_observer.h"

namespace espalier {

// Which features are wanted, and what says whether those on disk are they.
struct TeacherRequest {
  at::Tensor levels;         // (N, 3, S, S) uint8
  std::string fingerprint;   // of the images
  std::string weights_path;  // of the network
  int64_t side = 4;          // of the square map of features
  bool mirrored = false;     // every image is also shown left-right reversed
  std::string cache_path;    // "" = none
  bool keep = true;          // what had to be made is kept there
};

// What the frozen teacher sees in a set of images, computed once. The work is split over the ranks,
// `on_work` hears how far it is; the result is kept in a safetensors file whose metadata say which
// images, weights and sizes it is for, and which is made anew when they differ. Collective.
//
// Returns (N, views, side * side, channels) bfloat16, the same on every rank; positions row by row.
at::Tensor teacher_features(Communicator& comm, const Teacher& network,
                            const TeacherRequest& request, const WorkListener& on_work = {});

// (B, side * side, channels) bfloat16 of pictures (B, 3, S, S) with levels 0..255, where they are.
at::Tensor teacher_view(const Teacher& network, const at::Tensor& levels, int64_t side);

// Subtracts from each channel its mean over all images of view 0, in place; returns the mean (C).
// Features before pooling are never negative: without this, every cosine is high.
at::Tensor centre_features(at::Tensor& features);
void centre_features(at::Tensor& features, const at::Tensor& mean);

}  // namespace espalier
