#pragma once

#include <string>

#include <torch/torch.h>

#include "models/weights/safetensors.h"

namespace espalier {

// What the published DreamVLA and diffusers compute: tests/parity/dump_world_model.py.
inline const TensorMap& golden_world_model() {
  static const TensorMap golden = read_safetensors(std::string(ESPALIER_SOURCE_DIR) +
                                                   "/tests/parity/golden/world_model.safetensors");
  return golden;
}

// A golden tensor in fp32, the caller's own.
inline at::Tensor golden(const std::string& name) {
  return golden_world_model().at(name).to(torch::kFloat, /*non_blocking=*/false, /*copy=*/true);
}

// Loads "weight.PREFIX..." into a module. The file keeps the blocks of the decoders once.
inline void load_golden(torch::nn::Module& module, const std::string& prefix) {
  const torch::NoGradGuard no_gradient;
  for (const auto& item : module.named_parameters()) {
    std::string name = prefix + "." + item.key();
    if (name.starts_with("depth.blocks") || name.starts_with("track.blocks")) {
      name.replace(0, 5, "image");
    }
    TORCH_CHECK(item.value().sizes() == golden("weight." + name).sizes(), name, " is ",
                item.value().sizes(), ", golden ", golden("weight." + name).sizes());
    item.value().copy_(golden("weight." + name));
  }
}

}  // namespace espalier
