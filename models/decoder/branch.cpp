#include "models/decoder/branch.h"

namespace espalier {

// The order of these lines is the order in which parameters draw their random numbers and in which
// the optimizer sees them.
BranchImpl::BranchImpl(const BranchOptions& options, const BranchShape& shape) : options_(options) {
  const int64_t width = shape.block.width;
  const bool is_text = options.head == BranchHead::kText;
  if (is_text && shape.semantic_channels > 0) {
    semantic_projector = register_module("semantic_projector",
                                         Projector(shape.semantic_channels, shape.trunk_width));
  }
  if (width != shape.trunk_width) {
    entry = register_module("entry", Linear(shape.trunk_width, width));
  }
  register_module("layers", layers);
  for (int64_t i = 0; i < options.layers; ++i) layers->push_back(TransformerBlock(shape.block));
  norm = register_module("norm", RmsNorm(width, shape.block.norm_epsilon));
  if (is_text && shape.has_text_head) {
    text_head = register_module("text_head", Linear(width, shape.vocabulary_size));
  }
  if (!is_text) depth = register_module("depth", DepthTransformer(shape.depth));
}

Residual BranchImpl::enter(Residual residual) {
  if (entry.is_empty()) return residual;
  const at::Tensor sum =
      residual.delta.defined() ? residual.x + residual.delta : std::move(residual.x);
  return {entry->forward(sum).to(at::kFloat), {}};
}

}  // namespace espalier
