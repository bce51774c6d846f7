#pragma once

#include <cstdint>
#include <vector>

#include <torch/torch.h>

#include "models/layers/pre_norm_block.h"

namespace espalier {

struct InstructionEncoderOptions {
  int64_t vocabulary_size = 64;
  int64_t longest = 16;  // words
  int64_t width = 128;
  int64_t heads = 4;
  int64_t mlp_width = 512;
};

// A short instruction to one vector: word embeddings and learned positions, one layer in which the
// words of an instruction see each other, the mean over its words, a linear. Trained from scratch,
// where DreamVLA has a frozen CLIP text encoder.
class InstructionEncoderImpl : public torch::nn::Module {
 public:
  explicit InstructionEncoderImpl(const InstructionEncoderOptions& options);
  // ids (B, words) int64, of which the first lengths[b] of row b count: the rest is padding of any
  // value and no work is done on it. Returns (B, width) fp32. Throws c10::Error when a length is
  // not in 1 .. min(words, longest).
  at::Tensor forward(const at::Tensor& ids, const std::vector<int64_t>& lengths);

  torch::nn::Embedding words{nullptr};
  at::Tensor position;  // (longest, width)
  PreNormBlock block{nullptr};
  torch::nn::LayerNorm norm{nullptr};
  Linear out{nullptr};

 private:
  InstructionEncoderOptions options_;
};
TORCH_MODULE(InstructionEncoder);

}  // namespace espalier
