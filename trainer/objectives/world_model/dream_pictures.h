#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "data/images/image.h"
#include "trainer/objectives/world_model/world_model.h"

namespace espalier {

// The present frames (N, 3, S, S) uint8 with what was dreamt (N, patches, 3 patch^2) painted where
// `region` (N, patches) is 1: values (N, 3, S, S) in [-1, 1]. Patches that are dreamt normalised
// get mean and deviation of the present ones.
at::Tensor paint_dream(const WorldModelObjective& objective, const at::Tensor& now,
                       const at::Tensor& dreamt, const at::Tensor& region);

// (N, 3, S, S) uint8 as values in [-1, 1].
at::Tensor frame_values(const at::Tensor& levels);

// Where frames (N, 3, S, S) uint8 differ, as the objective's settings say: (N, patches).
at::Tensor region_between(const WorldModelObjective& objective, const at::Tensor& now,
                          const at::Tensor& future);

// Depth (N, S, S) in metres as grey pictures, near ones light, `farthest` black.
std::vector<Image> depth_images(const at::Tensor& depth, double farthest);

}  // namespace espalier
