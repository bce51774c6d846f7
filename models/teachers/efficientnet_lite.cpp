#include "models/teachers/efficientnet_lite.h"

#include <torch/torch.h>

#include <algorithm>

#include "models/errors.h"

namespace espalier {
namespace {

constexpr double kBatchNormEpsilon = 1e-3;
constexpr double kCentre = 127.0;  // of the levels the weights were trained with
constexpr double kScale = 128.0;

struct Row {  // of the architecture table: `repeat` blocks, the first one with the stride
  int repeat, kernel, stride, expand, out;
};
constexpr Row kRows[] = {{1, 3, 1, 1, 16},  {2, 3, 2, 6, 24},  {2, 5, 2, 6, 40}, {3, 3, 2, 6, 80},
                         {3, 5, 1, 6, 112}, {4, 5, 2, 6, 192}, {1, 3, 1, 6, 320}};
constexpr int64_t kStemChannels = 32;

class Reader {
 public:
  Reader(const TensorMap& weights, std::string path) : weights_(weights), path_(std::move(path)) {}

  const at::Tensor& tensor(const std::string& name, at::IntArrayRef shape) const {
    const auto found = weights_.find(name);
    if (found == weights_.end()) {
      throw WeightsError(path_ + ": is not EfficientNet-Lite0: tensor \"" + name +
                         "\" is missing. Make the file with launch/install/prepare_teacher.py.");
    }
    if (found->second.sizes() != shape) {
      throw WeightsError(
          path_ + ": tensor \"" + name + "\" has another shape than in " +
          "EfficientNet-Lite0. Make the file with launch/install/prepare_teacher.py.");
    }
    return found->second;
  }

  // The convolution with its batch norm folded in: y = gamma (conv(x) - mean) / sqrt(var + eps)
  // + beta.
  std::pair<at::Tensor, at::Tensor> folded(const std::string& convolution, const std::string& norm,
                                           at::IntArrayRef shape) const {
    const at::Tensor weight = tensor(convolution + ".weight", shape).to(at::kFloat);
    const auto of_norm = [&](const char* part) {
      return tensor(norm + part, shape[0]).to(at::kFloat);
    };
    const at::Tensor scale =
        of_norm(".weight") * (of_norm(".running_var") + kBatchNormEpsilon).rsqrt();
    return {(weight * scale.view({-1, 1, 1, 1})).contiguous(at::MemoryFormat::ChannelsLast),
            of_norm(".bias") - of_norm(".running_mean") * scale};
  }

 private:
  const TensorMap& weights_;
  std::string path_;
};

}  // namespace

EfficientNetLite0::EfficientNetLite0(const TensorMap& weights, const std::string& path) {
  const Reader reader(weights, path);
  const auto make = [&](const std::string& name, const std::string& norm, at::IntArrayRef shape,
                        int64_t stride, int64_t groups) {
    auto [weight, bias] = reader.folded(name, norm, shape);
    return Convolution{weight, bias, stride, groups};
  };
  stem_ = make("_conv_stem", "_bn0", {kStemChannels, 3, 3, 3}, 2, 1);
  int64_t channels = kStemChannels;
  for (const Row& row : kRows) {
    for (int i = 0; i < row.repeat; ++i) {
      const std::string name = "_blocks." + std::to_string(blocks_.size()) + ".";
      const int64_t stride = i == 0 ? row.stride : 1;
      const int64_t inner = channels * row.expand;
      Block block;
      block.has_skip = stride == 1 && channels == row.out;
      if (row.expand != 1) {
        block.layers.push_back(
            make(name + "_expand_conv", name + "_bn0", {inner, channels, 1, 1}, 1, 1));
      }
      block.layers.push_back(make(name + "_depthwise_conv", name + "_bn1",
                                  {inner, 1, row.kernel, row.kernel}, stride, inner));
      block.layers.push_back(
          make(name + "_project_conv", name + "_bn2", {row.out, inner, 1, 1}, 1, 1));
      blocks_.push_back(std::move(block));
      channels = row.out;
    }
  }
  head_ = make("_conv_head", "_bn1", {kChannels, channels, 1, 1}, 1, 1);
}

// "Same" padding as TensorFlow has it: an odd pixel of padding goes to the right and the bottom.
at::Tensor EfficientNetLite0::convolve(const at::Tensor& map, const Convolution& layer) {
  const int64_t size = map.size(2), kernel = layer.weight.size(2);
  const int64_t out = (size + layer.stride - 1) / layer.stride;
  const int64_t padding = std::max<int64_t>((out - 1) * layer.stride + kernel - size, 0);
  const int64_t before = padding / 2;
  const bool is_even = padding % 2 == 0;
  const at::Tensor padded =
      is_even ? map
              : at::constant_pad_nd(map, {before, padding - before, before, padding - before}, 0);
  const int64_t symmetric = is_even ? before : 0;
  return at::conv2d(padded, layer.weight, layer.bias, {layer.stride, layer.stride},
                    {symmetric, symmetric}, {1, 1}, layer.groups);
}

void EfficientNetLite0::to(at::Device device) {
  const auto move = [&](Convolution& layer) {
    layer.weight = layer.weight.to(device);
    layer.bias = layer.bias.to(device);
  };
  move(stem_);
  for (Block& block : blocks_) std::for_each(block.layers.begin(), block.layers.end(), move);
  move(head_);
}

at::Tensor EfficientNetLite0::features(const at::Tensor& levels) const {
  const torch::NoGradGuard no_gradient;
  TORCH_CHECK(
      levels.dim() == 4 && levels.size(2) == levels.size(3) && levels.size(2) % kStride == 0,
      "the teacher wants square images of a multiple of ", kStride, " pixels, not ",
      levels.sizes());
  at::Tensor map = ((levels.to(stem_.weight.device(), at::kFloat) - kCentre) / kScale)
                       .contiguous(at::MemoryFormat::ChannelsLast);
  map = convolve(map, stem_).clamp_(0, 6);
  for (const Block& block : blocks_) {
    const at::Tensor input = map;
    for (size_t i = 0; i < block.layers.size(); ++i) {
      map = convolve(map, block.layers[i]);
      if (i + 1 < block.layers.size()) map.clamp_(0, 6);
    }
    if (block.has_skip) map.add_(input);
  }
  return convolve(map, head_).clamp_(0, 6).permute({0, 2, 3, 1}).flatten(1, 2).contiguous();
}

}  // namespace espalier
