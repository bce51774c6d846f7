#pragma once

#include <string>

#include "trainer/config/run_config.h"

namespace espalier {

enum class Backend { kSingle, kMpi, kNccl };

struct BackendFacts {
  int world_size = 1;
  bool is_on_gpu = false;
  bool has_nccl = false;       // this build, on this machine
  bool is_gpu_shared = false;  // two ranks of a machine have one
};

struct BackendChoice {
  Backend backend = Backend::kSingle;
  std::string why;
};

// What carries tensors between ranks. Throws ConfigError where compute.communicator asks for what
// cannot be.
BackendChoice choose_backend(const ComputeConfig& config, const BackendFacts& facts);

}  // namespace espalier
