#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include "models/decoder/y_model.h"
#include "models/weights/safetensors.h"

namespace espalier {

// Widths of a decoder of text, and the tokens of a step: an entry of decoder_sizes.json.
struct DecoderSize {
  int64_t width = 0, layers = 0, heads = 0, kv_heads = 0, feed_forward = 0, vocabulary = 0;
  int64_t length = 0, sequences = 0;
  int64_t tokens() const { return length * sequences; }
};
DecoderSize read_size(const std::string& path, const std::string& name);

// One step of training on made-up tokens: forward, backward, AdamW. A Y whose trunk has half of the
// layers and whose only branch, for text, the rest; all sequences have the same length. No
// clipping, no communication, no loading: what is left is the model.
class DecoderStep {
 public:
  DecoderStep(const DecoderSize& size, at::Device device, const std::string& precision);

  // Returns the mean loss, on the device, without waiting for it.
  at::Tensor run();

  // Floating-point operations of the matrix products of a step: two for each multiplication, three
  // products of that size for each weight (forward, and two in backward), and attention as causal:
  // half of its scores.
  double flops() const;
  int64_t parameters() const;
  int64_t multiplied_parameters() const;  // of weights that are factors of products
  std::string attention() const;          // which kernel it runs on

  // Parameters and moments, aliasing live storage.
  TensorMap weights() const;
  std::vector<at::Tensor> state() const;

 private:
  void update();

  DecoderSize size_;
  at::Device device_;
  std::string precision_;
  YModel model_{nullptr};
  TokenRows rows_;
  at::Tensor targets_;
  std::vector<at::Tensor> parameters_, means_, squares_, steps_;
};

}  // namespace espalier
