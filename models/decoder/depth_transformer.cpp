#include "models/decoder/depth_transformer.h"

#include <string>
#include <vector>

namespace espalier {

DepthTransformerImpl::DepthTransformerImpl(const DepthTransformerOptions& options)
    : options_(options) {
  from_context_ = register_module("from_context", Linear(options.context_width, options.width));
  from_codes_ = register_module("from_codes", Linear(options.code_channels, options.width));
  stage_embedding_ =
      register_parameter("stage_embedding", torch::randn({options.stages, options.width}) * 0.02);
  const TransformerBlockOptions block{
      .width = options.width,
      .heads = {options.heads, options.heads, options.width / options.heads},
      .feed_forward_width = options.feed_forward_width,
      .norm_epsilon = options.norm_epsilon};
  register_module("blocks", blocks_);
  for (int64_t i = 0; i < options.layers; ++i) blocks_->push_back(TransformerBlock(block));
  norm_ = register_module("norm", RmsNorm(options.width, options.norm_epsilon));
  register_module("heads", heads_);
  const int64_t classifiers = options.has_shared_classifier ? 1 : options.stages;
  for (int64_t i = 0; i < classifiers; ++i) {
    heads_->push_back(Linear(options.width, options.codebook_size));
  }
}

// Training asks for the same positions every time: what is derived from a mask is kept with it.
const AttentionMask& DepthTransformerImpl::mask_for(int64_t positions, int64_t stages) {
  masks_.resize(static_cast<size_t>(options_.stages));
  AttentionMask& mask = masks_[static_cast<size_t>(stages - 1)];
  if (mask.rows() != positions * stages) mask = AttentionMask::position_major(positions, stages);
  return mask;
}

at::Tensor DepthTransformerImpl::forward(const at::Tensor& hidden, const at::Tensor& code_sums) {
  const int64_t positions = hidden.size(0);
  const int64_t stages = code_sums.defined() ? code_sums.size(0) + 1 : 1;
  TORCH_CHECK(stages <= options_.stages, "the depth transformer has ", options_.stages,
              " stages, code sums of ", stages - 1, " were given");
  at::Tensor x = from_context_->forward(hidden).to(torch::kFloat);
  if (stages > 1) {
    x = torch::cat({x, from_codes_->forward(code_sums.flatten(0, 1)).to(torch::kFloat)});
  }
  x = (x.view({stages, positions, options_.width}) +
       stage_embedding_.narrow(0, 0, stages).unsqueeze(1))
          .flatten(0, 1);
  const AttentionMask& mask = mask_for(positions, stages);
  Residual residual{x, {}};
  for (const auto& block : *blocks_) {
    residual = block->as<TransformerBlock>()->forward(residual, mask, RotaryTable{});
  }
  const at::Tensor y = norm_->forward(residual);
  if (options_.has_shared_classifier) {
    return heads_[0]->as<Linear>()->forward(y).view({stages, positions, options_.codebook_size});
  }
  std::vector<at::Tensor> logits;
  for (int64_t stage = 0; stage < stages; ++stage) {
    logits.push_back(heads_[static_cast<size_t>(stage)]->as<Linear>()->forward(
        y.narrow(0, stage * positions, positions)));
  }
  return torch::stack(logits);
}

}  // namespace espalier
