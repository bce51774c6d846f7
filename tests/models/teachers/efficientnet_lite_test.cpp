#include "models/teachers/efficientnet_lite.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "models/errors.h"

namespace espalier {
namespace {

// Value i of a tensor, the same here and in tests/parity/dump_efficientnet_lite.py: real weights
// are too large to keep.
at::Tensor waves(const std::vector<int64_t>& shape, double phase, double scale, double offset) {
  const at::Tensor index = torch::arange(c10::multiply_integers(shape), at::kDouble);
  return ((index * 0.7 + phase).sin() * scale + offset).to(at::kFloat).view(shape);
}

TensorMap wave_weights(const TensorMap& shapes) {
  TensorMap weights;
  double phase = 0;
  for (const auto& [name, shape_tensor] : shapes) {  // in name order
    const auto* data = shape_tensor.const_data_ptr<int64_t>();
    const std::vector<int64_t> shape(data, data + shape_tensor.numel());
    phase += 1;
    if (shape.size() == 4) {
      const double fan_in = static_cast<double>(shape[1] * shape[2] * shape[3]);
      weights[name] = waves(shape, phase, std::sqrt(4.0 / fan_in), 0);
    } else if (name.ends_with("running_var") || name.ends_with("weight")) {
      weights[name] = waves(shape, phase, 0.3, 1);
    } else {
      weights[name] = waves(shape, phase, 0.2, 0);
    }
  }
  return weights;
}

class EfficientNetLiteParity : public testing::Test {
 protected:
  EfficientNetLiteParity()
      : golden_(read_safetensors(std::string(ESPALIER_SOURCE_DIR) +
                                 "/tests/parity/golden/efficientnet_lite.safetensors")) {
    TensorMap shapes;
    for (const auto& [name, tensor] : golden_) {
      if (name.starts_with("shape.")) shapes[name.substr(6)] = tensor;
    }
    weights_ = wave_weights(shapes);
  }
  TensorMap golden_, weights_;
};

TEST_F(EfficientNetLiteParity, FeaturesAreThoseOfThePublicPackage) {
  const EfficientNetLite0 network(weights_, "waves");
  const Teacher& teacher = network;
  const at::Tensor got = teacher.features(golden_.at("levels"));
  const int64_t side = golden_.at("levels").size(2) / teacher.stride();
  EXPECT_EQ(got.sizes(), (std::vector<int64_t>{2, side * side, teacher.channels()}));
  const at::Tensor& expected = golden_.at("features");
  ASSERT_EQ(got.sizes(), expected.sizes());
  EXPECT_GT(expected.std().item<float>(), 0.1) << "the golden features say nothing";
  EXPECT_TRUE(torch::allclose(got, expected, 1e-4, 1e-4))
      << "off by " << (got - expected).abs().max().item<float>();
}

TEST_F(EfficientNetLiteParity, MissingTensorIsNamed) {
  weights_.erase("_blocks.3._bn1.running_mean");
  try {
    const EfficientNetLite0 network(weights_, "teacher.safetensors");
    FAIL() << "no error";
  } catch (const WeightsError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("teacher.safetensors"), std::string::npos) << message;
    EXPECT_NE(message.find("_blocks.3._bn1.running_mean"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace espalier
