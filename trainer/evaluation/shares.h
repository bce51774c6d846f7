#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"
#include "trainer/run_observer.h"

namespace espalier {

// Rows 0..n-1 of `row_shape`, of which every rank makes a share: make(indices (B) int64 on CPU) ->
// (B, row_shape...), in batches small enough for a forward pass. Returns all rows on every rank,
// fp32 on CPU, so numbers must fit fp32 (codes up to 2^24 do). Collective. `on_work` hears of
// `what`, how far it is.
at::Tensor gather_rows(Communicator& comm, int64_t n, std::vector<int64_t> row_shape,
                       const std::function<at::Tensor(const at::Tensor& indices)>& make,
                       std::string_view what = "evaluation", const WorkListener& on_work = {});

std::vector<double> to_numbers(const at::Tensor& tensor);  // flattened

}  // namespace espalier
