#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "trainer/interference/interference_record.h"

namespace espalier {

// One of the parameters that objectives share.
struct SharedParameter {
  std::string name;    // in a checkpoint
  int64_t offset = 0;  // in a row of gradients
  int64_t numbers = 0;
  bool is_matrix = false;  // two or more dimensions
};

// `rows` (2 * objectives, numbers): the gradients of GradientSums, summed over ranks and over
// `steps` steps; `turns`: the micro-batches behind each row. A measure for every place of the
// parameters in their order, then for every layer, then for everything. Products are in fp64.
std::vector<PlaceMeasure> compare_gradients(const at::Tensor& rows,
                                            const std::vector<SharedParameter>& parameters,
                                            const std::vector<std::array<int64_t, 2>>& turns,
                                            int64_t steps);

}  // namespace espalier
