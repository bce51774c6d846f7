#include "trainer/forward/forward_inputs.h"

#include <algorithm>

#include <torch/torch.h>

#include "models/weights/safetensors_layout.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

bool fits(const at::Tensor& tensor, const std::vector<int64_t>& shape) {
  if (tensor.dim() != std::ssize(shape)) return false;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] >= 0 && tensor.size(static_cast<int64_t>(i)) != shape[i]) return false;
  }
  return true;
}

}  // namespace

void ForwardInputs::refuse(const std::string& name, const std::string& problem) const {
  throw ConfigError(request_.inputs_path + ": tensor \"" + name + "\" " + problem);
}

at::Tensor ForwardInputs::integers(const std::string& name,
                                   const std::vector<int64_t>& shape) const {
  const auto found = request_.inputs.find(name);
  if (found == request_.inputs.end()) refuse(name, "is missing");
  const at::Tensor& tensor = found->second;
  if (!at::isIntegralType(tensor.scalar_type(), /*includeBool=*/true)) {
    refuse(name, std::string("is of type ") + safetensors_dtype(tensor.scalar_type()) +
                     ", expected a whole-number type such as I64");
  }
  if (!fits(tensor, shape)) {
    refuse(name, "is " + shape_text(tensor.sizes().vec()) + ", expected " + shape_text(shape));
  }
  return tensor.to(at::kLong);
}

void ForwardInputs::expect_range(const std::string& name, const at::Tensor& values, int64_t least,
                                 int64_t below, const std::string& expected) const {
  if (values.numel() == 0) return;
  const int64_t low = values.min().item<int64_t>(), high = values.max().item<int64_t>();
  if (low >= least && high < below) return;
  refuse(name, "has " + std::to_string(low < least ? low : high) + ", expected " + expected);
}

void ForwardInputs::expect_only(const std::vector<std::string>& names) const {
  for (const auto& [name, tensor] : request_.inputs) {
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    std::string known;
    for (const std::string& each : names) known += (known.empty() ? "" : ", ") + each;
    refuse(name, "is not an input of this model type; it reads " + known);
  }
}

}  // namespace espalier
