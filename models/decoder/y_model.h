#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "models/decoder/depth_transformer.h"
#include "models/decoder/transformer_block.h"
#include "models/layers/linear.h"

namespace espalier {

enum class Branch { kUnderstanding, kGeneration };

struct YModelOptions {
  int64_t width = 256;
  int64_t heads = 4;
  int64_t kv_heads = 4;
  int64_t feed_forward_width = 704;
  int64_t trunk_layers = 4;
  int64_t understanding_layers = 2;
  int64_t generation_layers = 2;
  bool query_key_value_bias = false;
  double rotary_base = 10000.0;
  double norm_epsilon = 1e-6;
  int64_t longest_sequence = 256;  // tokens: rows of the rotary table
  int64_t vocabulary_size = 1024;
  int64_t image_positions = 64;
  int64_t code_channels = 32;     // of a code vector of the image tokenizer
  int64_t semantic_channels = 0;  // of a semantic vector per position, 0 = none
  int64_t stages = 4;             // codes per position that the generation branch predicts
  int64_t codebook_size = 256;
  int64_t depth_width = 128;
  int64_t depth_heads = 4;
  int64_t depth_layers = 2;
  int64_t depth_feed_forward_width = 352;
};

// Packed sequences of text and image tokens. Row i of the matrix is source `sources[i]` of the list
// [begin of image, end of image, text tokens.., image positions..].
struct TokenRows {
  torch::Tensor text_ids;   // (T) int64
  torch::Tensor code_sums;  // (I, code_channels) fp32: sum of the code vectors of a position
  torch::Tensor semantics;  // (I, semantic_channels) fp32, undefined = none
  torch::Tensor positions;  // (I) int64, 0 .. image_positions-1
  torch::Tensor sources;    // (N) int64
  SequenceLayout layout;
};
constexpr int64_t kBeginOfImage = 0;
constexpr int64_t kEndOfImage = 1;
constexpr int64_t kFirstText = 2;  // followed by the text tokens, then the image positions

// Two-layer perceptron from the image side into the model's width.
class ProjectorImpl : public torch::nn::Module {
 public:
  ProjectorImpl(int64_t in_features, int64_t width);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  Linear in_{nullptr}, out_{nullptr};
};
TORCH_MODULE(Projector);

// Decoder in the shape of a Y (UniFork): the layers of the trunk serve every task, then each kind
// of task has layers, a final norm and a head of its own. Attention is causal everywhere.
//
// Understanding predicts text. Generation predicts, at the token before an image position, the
// residual codes of that position through a depth transformer. Image positions enter as a
// projection of the sum of their code vectors; where a sequence is only read (understanding), a
// projection of their semantic vectors is added, which a sequence that is being drawn cannot have.
//
// When the branches are equally deep, generation starts as a copy of understanding.
class YModelImpl : public torch::nn::Module {
 public:
  explicit YModelImpl(const YModelOptions& options);

  const YModelOptions& options() const { return options_; }

  // Hidden states of all rows after the branch's final norm, in the compute type.
  torch::Tensor hidden(const TokenRows& rows, Branch branch);
  torch::Tensor embed(const TokenRows& rows);
  torch::Tensor text_logits(const torch::Tensor& hidden) { return text_head_->forward(hidden); }
  DepthTransformer& depth() { return depth_; }

  // Embeddings (batch * count rows) continue the sequences of the cache; returns their hidden
  // states. The cache has cache_layers() layers. No gradients.
  torch::Tensor step(const torch::Tensor& embeddings, Branch branch, KeyValueCache& cache,
                     int64_t count);
  int64_t cache_layers(Branch branch) const;

  std::vector<torch::Tensor> trunk_parameters() const;
  std::vector<torch::Tensor> branch_parameters(Branch branch) const;

  // After weights changed where autograd does not see it.
  void forget_cached_weights();

 private:
  torch::nn::ModuleList& layers_of(Branch branch) {
    return branch == Branch::kUnderstanding ? understanding_ : generation_;
  }
  RmsNorm& norm_of(Branch branch) {
    return branch == Branch::kUnderstanding ? understanding_norm_ : generation_norm_;
  }

  YModelOptions options_;
  RotaryTable rotary_;
  torch::nn::Embedding text_embedding_{nullptr};
  torch::Tensor image_marks_, position_embedding_;
  Projector projector_{nullptr}, semantic_projector_{nullptr};
  torch::nn::ModuleList trunk_, understanding_, generation_;
  RmsNorm understanding_norm_{nullptr}, generation_norm_{nullptr};
  Linear text_head_{nullptr};
  DepthTransformer depth_{nullptr};
};
TORCH_MODULE(YModel);

}  // namespace espalier
