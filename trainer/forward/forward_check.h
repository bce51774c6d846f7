#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/weights/safetensors.h"

namespace espalier {

// One forward pass of a model in a Hugging Face folder or an export of a run, on named tensors:
// what somebody who brings weights, or takes them away, compares with another implementation.
struct ForwardRequest {
  std::string folder;
  TensorMap inputs;
  std::string inputs_path;  // for errors
  bool with_gradients = false;
  bool is_training = false;  // dropout, running statistics
  bool with_hidden_states = false;
  at::ScalarType type = at::kFloat;  // products: kFloat, or kBFloat16 as training does
  at::Device device = at::kCPU;
};

// Loads the folder as training would, by the "model_type" of its config.json, runs it, and returns
// outputs on the CPU under the names of the reference library: logits, loss, last_hidden_state,
// hidden_states.K, grad.PARAMETER (as the file calls it), buffer.NAME. WeightsError for a folder
// that cannot be used; ConfigError for inputs with wrong names, shapes or types, which says what
// was expected.
TensorMap run_forward(const ForwardRequest& request);

// The model types there are, each with what it reads.
struct ForwardModelType {
  std::string name;
  std::string inputs;  // one line for the help
  TensorMap (*run)(const ForwardRequest&) = nullptr;
};
const std::vector<ForwardModelType>& forward_model_types();

}  // namespace espalier
