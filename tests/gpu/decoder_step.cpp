#include "tests/gpu/decoder_step.h"

#include <fstream>

#include <ATen/ops/_fused_adamw.h>

#include "models/attention/fused_attention.h"
#include "models/layers/fused_ops.h"
#include "trainer/update/precision.h"

namespace espalier {
namespace {

constexpr int64_t kText = 0;  // the only branch

YModelOptions model_options(const DecoderSize& size) {
  return {.width = size.width,
          .heads = size.heads,
          .kv_heads = size.kv_heads,
          .feed_forward_width = size.feed_forward,
          .trunk_layers = size.layers / 2,
          .branches = {{"text", size.layers - size.layers / 2, BranchHead::kText}},
          .longest_sequence = size.length,
          .vocabulary_size = size.vocabulary,
          .image_positions = 1,
          .code_channels = 1};
}

// mfu_peer.py makes the same.
at::Tensor made_up_tokens(int64_t count, int64_t vocabulary) {
  const at::Tensor i = torch::arange(count, at::kLong);
  return (i * 7919 + (i * i).remainder(104729)).remainder(vocabulary);
}

}  // namespace

DecoderSize read_size(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  TORCH_CHECK(file.good(), path, " cannot be read");
  const nlohmann::json sizes = nlohmann::json::parse(file);
  TORCH_CHECK(sizes.contains(name), path, " has no size \"", name, "\"");
  const nlohmann::json& s = sizes[name];
  return {.width = s.at("width"),
          .layers = s.at("layers"),
          .heads = s.at("heads"),
          .kv_heads = s.at("kv_heads"),
          .feed_forward = s.at("feed_forward"),
          .vocabulary = s.at("vocabulary"),
          .length = s.at("length"),
          .sequences = s.at("sequences")};
}

DecoderStep::DecoderStep(const DecoderSize& size, at::Device device, const std::string& precision)
    : size_(size), device_(device), precision_(precision) {
  torch::manual_seed(1);
  model_ = YModel(model_options(size));
  model_->to(device);
  rows_.text_ids = made_up_tokens(size.tokens(), size.vocabulary).to(device);
  rows_.sources = torch::arange(kFirstText, kFirstText + size.tokens(), at::kLong).to(device);
  rows_.mask = AttentionMask::from_lengths(
      std::vector<int64_t>(static_cast<size_t>(size.sequences), size.length));
  targets_ = rows_.text_ids.roll(-1);
  for (const auto& parameter : model_->named_parameters()) {
    // What only images pass through takes no part.
    if (parameter.key().starts_with("projector") || parameter.key() == "position_embedding")
      continue;
    parameters_.push_back(parameter.value());
    means_.push_back(torch::zeros_like(parameter.value()));
    squares_.push_back(torch::zeros_like(parameter.value()));
    steps_.push_back(torch::zeros({}, device));
  }
}

at::Tensor DecoderStep::run() {
  for (const at::Tensor& parameter : parameters_) parameter.mutable_grad().reset();
  model_->forget_cached_weights();
  at::Tensor loss;
  {
    const PrecisionGuard precision(device_.type(), precision_);
    const at::Tensor logits = model_->text_logits(model_->hidden(rows_, kText), kText);
    loss = cross_entropy_sum(logits, targets_) / static_cast<double>(size_.tokens());
  }
  loss.backward();
  update();
  return loss.detach();
}

void DecoderStep::update() {
  const torch::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& parameter : parameters_) gradients.push_back(parameter.grad());
  at::_foreach_add_(steps_, 1);
  at::_fused_adamw_(parameters_, gradients, means_, squares_, {}, steps_, /*lr=*/3e-4,
                    /*beta1=*/0.9, /*beta2=*/0.95, /*weight_decay=*/0.1, /*eps=*/1e-8,
                    /*amsgrad=*/false, /*maximize=*/false);
}

int64_t DecoderStep::parameters() const {
  int64_t count = 0;
  for (const at::Tensor& parameter : parameters_) count += parameter.numel();
  return count;
}

int64_t DecoderStep::multiplied_parameters() const {
  int64_t count = 0;
  for (const auto& module : model_->named_modules()) {
    const auto* linear = module.value()->as<Linear>();
    if (linear != nullptr && !module.key().starts_with("projector"))
      count += linear->weight.numel();
  }
  return count;
}

double DecoderStep::flops() const {
  const auto tokens = static_cast<double>(size_.tokens());
  const auto attention = static_cast<double>(6 * size_.layers * size_.length * size_.width);
  return tokens * (6.0 * static_cast<double>(multiplied_parameters()) + attention);
}

std::string DecoderStep::attention() const {
  return attention_path(device_, precision_ == "bf16" ? at::kBFloat16 : at::kFloat,
                        size_.width / size_.heads);
}

TensorMap DecoderStep::weights() const {
  TensorMap all;
  for (const auto& parameter : model_->named_parameters()) all[parameter.key()] = parameter.value();
  return all;
}

std::vector<at::Tensor> DecoderStep::state() const {
  std::vector<at::Tensor> all = parameters_;
  for (const auto* more : {&means_, &squares_, &steps_}) {
    all.insert(all.end(), more->begin(), more->end());
  }
  return all;
}

}  // namespace espalier
