#pragma once

#include <torch/torch.h>
#include <nlohmann/json.hpp>

namespace espalier {

// What the machine reaches at its best, by LibTorch's own operations: TB/s of a copy on the device,
// bytes read and written, and TFLOP/s of a bf16 product of square matrices (8192 on a GPU) of
// random numbers. Median of nine windows each, with the least and the most.
nlohmann::json measure_ceilings(at::Device device);

}  // namespace espalier
