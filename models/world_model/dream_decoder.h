#pragma once

#include <cstdint>

#include <torch/torch.h>

#include "models/layers/pre_norm_block.h"

namespace espalier {

enum class DreamOutput {
  kLinear,
  kRelu,      // depth, as published; an output below zero gets no gradient
  kSoftplus,  // depth that always gets one
};

struct DreamDecoderOptions {
  int64_t query_width = 256;  // channels of a query's hidden row
  int64_t queries = 9;        // per image
  int64_t width = 256;
  int64_t heads = 16;  // divides width
  int64_t blocks = 2;
  int64_t mlp_width = 1024;
  int64_t patches = 196;  // N outputs of an image
  int64_t patch_width = 768;
  DreamOutput output = DreamOutput::kLinear;
  // Fixed sin-cos positions of queries and patches. The published decoder of SAM features has none
  // (their initialisation is commented out), so that all its patches come out alike; the others do.
  bool positions = true;
};

// What one kind of query dreams, for training only (DreamVLA §3, dreamvla_model.py): the hidden
// rows of an image's queries and N copies of a learned mask token see each other in a small vision
// transformer, and the N mask tokens come out as patches: pixels, depth, features or motion. The
// views of a robot share it: they are images of the batch.
class DreamDecoderImpl : public torch::nn::Module {
 public:
  explicit DreamDecoderImpl(const DreamDecoderOptions& options);
  // (B, queries, query_width) -> (B, N, patch_width) fp32
  at::Tensor forward(const at::Tensor& queries);

  const DreamDecoderOptions& options() const { return options_; }

  Linear from_query{nullptr}, out{nullptr};
  at::Tensor mask_token;  // (width)
  at::Tensor position;    // (queries + N, width), fixed; zero without positions
  torch::nn::ModuleList blocks{nullptr};
  torch::nn::LayerNorm norm{nullptr};

 private:
  DreamDecoderOptions options_;
  AttentionMask mask_;  // of one sample
};
TORCH_MODULE(DreamDecoder);

}  // namespace espalier
