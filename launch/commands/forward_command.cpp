#include <cstdio>
#include <fstream>

#include <nlohmann/json.hpp>

#include "launch/commands/commands.h"
#include "launch/protocol/failure_class.h"
#include "models/weights/safetensors.h"
#include "trainer/errors.h"
#include "trainer/forward/forward_check.h"
#include "trainer/host/device.h"

namespace espalier {
namespace {

at::Device device_of(const std::string& name) {
  ComputeConfig compute;
  compute.device = name;
  const at::Device device = choose_device(compute, /*local_rank=*/0);
  use_device(device, compute.deterministic);
  return device;
}

nlohmann::ordered_json describe(const TensorMap& tensors) {
  nlohmann::ordered_json all = nlohmann::ordered_json::object();
  for (const auto& [name, tensor] : tensors) all[name] = tensor.sizes().vec();
  return all;
}

}  // namespace

int run_forward_check(const ForwardArguments& arguments) {
  // Tried before the work: a long pass should not end with a folder that does not exist.
  if (!std::ofstream(arguments.outputs, std::ios::app)) {
    throw ConfigError("--outputs " + arguments.outputs + ": cannot be written");
  }
  const ForwardRequest request{.folder = arguments.folder,
                               .inputs = read_safetensors(arguments.inputs),
                               .inputs_path = arguments.inputs,
                               .with_gradients = arguments.backward,
                               .is_training = arguments.train,
                               .with_hidden_states = arguments.hidden_states,
                               .type = arguments.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat,
                               .device = device_of(arguments.device)};
  const TensorMap outputs = run_forward(request);
  write_safetensors(arguments.outputs, outputs, {{"format", "pt"}});
  nlohmann::ordered_json line = {{"outputs", arguments.outputs}, {"tensors", describe(outputs)}};
  if (outputs.contains("loss")) line["loss"] = outputs.at("loss").item<double>();
  std::printf("%s\n", line.dump().c_str());
  return kExitDone;
}

}  // namespace espalier
