#pragma once

#include <cstdint>
#include <vector>

#include <torch/torch.h>

#include "models/decoder/transformer_block.h"
#include "models/layers/linear.h"

namespace espalier {

struct DepthTransformerOptions {
  int64_t context_width = 256;  // of the hidden states it starts from
  int64_t code_channels = 32;   // of a code vector
  int64_t width = 128;
  int64_t heads = 4;
  int64_t layers = 2;
  int64_t feed_forward_width = 352;
  int64_t stages = 4;  // codes per image position
  int64_t codebook_size = 256;
  bool has_shared_classifier = false;  // one for all stages, where they share a codebook
  double norm_epsilon = 1e-6;
};

// Head of a branch for codes: predicts the residual codes of an image position one after the
// other. For hidden state h and code vectors e_1..e_D the inputs are u_0 = W_h h and
// u_d = W_e (e_1 + .. + e_d), d = 1..D-1; causal layers over these D tokens; a classifier per
// stage, since every stage has its own codebook, or one for all as in VILA-U, whose depth
// transformer this is with heads of plain width. Rows are stage-major: (D * M, ...), row d * M + m
// for stage d of position m.
class DepthTransformerImpl : public torch::nn::Module {
 public:
  explicit DepthTransformerImpl(const DepthTransformerOptions& options);

  // code_sums_SMC[d-1] = e_1 + .. + e_d of each of the M positions, for as many d as are known
  // (D-1 in training, fewer while sampling; may be undefined for none). Returns logits
  // (stages known + 1, M, codebook_size): stage d depends on codes of stages before d only.
  at::Tensor forward(const at::Tensor& hidden_MD, const at::Tensor& code_sums_SMC);

 private:
  const AttentionMask& mask_for(int64_t positions, int64_t stages);

  DepthTransformerOptions options_;
  std::vector<AttentionMask> masks_;  // the latest for each number of stages
  Linear from_context_{nullptr}, from_codes_{nullptr};
  at::Tensor stage_embedding_;
  torch::nn::ModuleList blocks_, heads_;
  RmsNorm norm_{nullptr};
};
TORCH_MODULE(DepthTransformer);

}  // namespace espalier
