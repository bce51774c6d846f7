#include "tests/gpu/module_checks.h"

namespace espalier {

bool ModuleCheck::holds() const {
  return fp32.holds() && (bf16.figures().at("tensors") == 0 || bf16.holds());
}

nlohmann::json ModuleCheck::figures() const {
  nlohmann::json all = {{"fp32", fp32.figures()}};
  if (bf16.figures().at("tensors") != 0) all["bf16"] = bf16.figures();
  return all;
}

const std::vector<std::string>& module_names() {
  static const std::vector<std::string> names = {"tokenizer", "decoder", "masked_autoencoder",
                                                 "world_model"};
  return names;
}

ModuleCheck check_module(const std::string& name, at::Device device) {
  // Both are the precision of an fp32 product; TF32 has 10 bits of it.
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setAllowTF32CuBLAS(false);
  if (name == "tokenizer") return check_tokenizer(device);
  if (name == "decoder") return check_decoder(device);
  if (name == "masked_autoencoder") return check_masked_autoencoder(device);
  TORCH_CHECK(name == "world_model", "there is no check of module \"", name, "\"");
  return check_world_model(device);
}

}  // namespace espalier
