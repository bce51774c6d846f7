#pragma once

#include <cstdint>
#include <string>

#include <torch/torch.h>

#include "models/decoder/depth_transformer.h"
#include "models/decoder/projector.h"
#include "models/decoder/transformer_block.h"
#include "models/layers/linear.h"

namespace espalier {

// What a branch predicts from its hidden states.
enum class BranchHead {
  kText,   // the next token: a linear layer onto the vocabulary
  kCodes,  // the residual codes of the next image position: a depth transformer
};

struct BranchOptions {
  std::string name;  // part of the parameters' names; no dots
  int64_t layers = 2;
  BranchHead head = BranchHead::kText;
  // Sizes of its layers; 0 = as in the trunk. Heads keep the trunk's width.
  int64_t width = 0, heads = 0, kv_heads = 0, feed_forward_width = 0;
};

// What a branch is built for.
struct BranchShape {
  int64_t trunk_width = 256;
  TransformerBlockOptions block;  // of the branch
  DepthTransformerOptions depth;
  int64_t vocabulary_size = 1024;
  bool has_text_head = true;      // of its own; else text is predicted by the embedding
  int64_t semantic_channels = 0;  // of a semantic vector per image position, 0 = none
};

// One arm of the Y: layers, a final norm and a head of its own. A branch that predicts text may
// also read images by their semantic vectors: the projector for these belongs to it, since a branch
// that draws an image cannot have them.
class BranchImpl : public torch::nn::Module {
 public:
  BranchImpl(const BranchOptions& options, const BranchShape& shape);

  const BranchOptions& options() const { return options_; }

  // What the trunk hands over, as the first layer takes it: brought to the branch's width.
  Residual enter(Residual residual);

  Projector semantic_projector{nullptr};  // text with semantic_channels only
  Linear entry{nullptr};                  // where the branch is of another width than the trunk
  torch::nn::ModuleList layers;           // of TransformerBlock
  RmsNorm norm{nullptr};
  Linear text_head{nullptr};        // text with a head of its own only
  DepthTransformer depth{nullptr};  // codes only

 private:
  BranchOptions options_;
};
TORCH_MODULE(Branch);

}  // namespace espalier
