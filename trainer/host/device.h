#pragma once

#include <string>

#include <c10/core/Device.h>

#include "trainer/config/run_config.h"

namespace espalier {

// The GPU of this local rank where the config allows and LibTorch sees one, else the CPU. Throws
// ConfigError when the config asks for a GPU that is not there.
at::Device choose_device(const ComputeConfig& config, int local_rank);

// Why that GPU, for people; where choose_device() took one.
std::string why_this_gpu(int local_rank);

// Makes it the current device of this thread. `is_deterministic`: with kernels that give the same
// bits in every run; an operation that has none then throws. Convolutions in fp32 are in fp32, as
// matrix products are: TF32 is off. To be called before the first kernel.
void use_device(at::Device device, bool is_deterministic);

// Threads of LibTorch's operations in this process: compute.threads_per_rank, or this rank's part
// of the cores that it may use. With it whether their products are batch-invariant.
void use_threads(const ComputeConfig& config, int local_ranks);

}  // namespace espalier
