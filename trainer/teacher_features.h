#pragma once

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"
#include "trainer/config/run_config.h"
#include "trainer/run_observer.h"

namespace espalier {

// What the frozen teacher sees in a set of images, computed once. The work is split over the ranks,
// `on_work` hears how far it is; the result is kept in a safetensors file whose metadata say which
// images, weights and sizes it is for, and which is made anew when they differ.
//
// `images` (N, 3, S, S) uint8 levels; `fingerprint` identifies them. With `mirrored` every image is
// also shown left-right reversed. Returns (N, views, T * T, 1280) bfloat16, T = image_size / 32,
// the same on every rank; positions row by row. `cache_path` "" = keep nothing. Throws WeightsError
// when the weights are missing or are another network's.
at::Tensor teacher_features(Communicator& comm, const TeacherConfig& teacher,
                            const at::Tensor& images, const std::string& fingerprint, bool mirrored,
                            const std::string& cache_path, const WorkListener& on_work = {});

// File for the features of one split, in teacher.cache or, without it, in the run directory.
std::string teacher_cache_path(const RunConfig& config, const std::string& split);

// Subtracts from each channel its mean over all images of view 0, in place; returns the mean (C).
// Features before pooling are never negative: without this, every cosine is high.
at::Tensor centre_features(at::Tensor& features);
void centre_features(at::Tensor& features, const at::Tensor& mean);

}  // namespace espalier
