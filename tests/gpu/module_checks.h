#pragma once

#include <string>
#include <vector>

#include "tests/gpu/closeness.h"

namespace espalier {

// The same weights and inputs on the CPU and on `device`: forward and every gradient in fp32, and,
// where training would use it, the forward pass in bf16 as well.
struct ModuleCheck {
  Closeness fp32{1e-4};
  Closeness bf16{5e-2};
  bool holds() const;
  nlohmann::json figures() const;
};

ModuleCheck check_tokenizer(at::Device device);
ModuleCheck check_masked_autoencoder(at::Device device);
ModuleCheck check_decoder(at::Device device);
ModuleCheck check_world_model(at::Device device);

// By name: tokenizer, masked_autoencoder, decoder, world_model.
const std::vector<std::string>& module_names();
ModuleCheck check_module(const std::string& name, at::Device device);

}  // namespace espalier
