#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "models/attention/attention_mask.h"
#include "models/attention/key_value_cache.h"
#include "models/attention/rotary.h"
#include "models/decoder/branch.h"
#include "models/decoder/depth_transformer.h"
#include "models/decoder/projector.h"

namespace espalier {

struct YModelOptions {
  int64_t width = 256;
  int64_t heads = 4;
  int64_t kv_heads = 4;
  int64_t head_dim = 0;  // 0 = width / heads
  int64_t feed_forward_width = 704;
  int64_t trunk_layers = 4;             // the fork layer: layers after it are a branch's
  std::vector<BranchOptions> branches;  // at least one; names differ
  bool query_key_value_bias = false;
  bool attention_out_bias = false;
  bool feed_forward_bias = false;
  bool has_tied_text_head = false;  // text is predicted by the embedding of text
  RotaryOptions rotary = {};
  double norm_epsilon = 1e-6;
  int64_t longest_sequence = 256;  // tokens: rows of the rotary table
  int64_t vocabulary_size = 1024;
  int64_t padding_id = -1;  // a text token whose embedding is not learned by reading it; -1 = none
  int64_t image_positions = 64;   // 0 = text only
  int64_t code_channels = 32;     // of a code vector of the image tokenizer
  int64_t semantic_channels = 0;  // of a semantic vector per position, 0 = none
  int64_t stages = 4;             // codes per position that branches with a codes head predict
  int64_t codebook_size = 256;
  int64_t depth_width = 128;
  int64_t depth_heads = 4;
  int64_t depth_layers = 2;
  int64_t depth_feed_forward_width = 352;
  bool depth_shared_classifier = false;
};

// Layers of the trunk, and of one of its branches.
TransformerBlockOptions trunk_block(const YModelOptions& options);
TransformerBlockOptions branch_block(const YModelOptions& options, const BranchOptions& branch);

// Packed sequences of text and image tokens. Row i of the matrix is source `sources[i]` of the list
// [begin of image, end of image, text tokens.., image positions..].
struct TokenRows {
  at::Tensor text_ids;   // (T) int64
  at::Tensor code_sums;  // (I, code_channels) fp32: sum of the code vectors of a position
  at::Tensor semantics;  // (I, semantic_channels) fp32, undefined = none
  at::Tensor positions;  // (I) int64, 0 .. image_positions-1
  at::Tensor pictures;   // (I) int64: of which picture of the batch; undefined where nobody asks
  at::Tensor sources;    // (N) int64
  AttentionMask mask;    // of N rows
};
constexpr int64_t kBeginOfImage = 0;
constexpr int64_t kEndOfImage = 1;
constexpr int64_t kFirstText = 2;  // followed by the text tokens, then the image positions

// In a list of token ids: here stands the next picture, begin and end marks included.
constexpr int64_t kPicture = -1;

// Decoder in the shape of a Y (UniFork): the layers of the trunk serve every task, then each kind
// of task has a branch of its own (branch.h). There may be any number of branches, several of a
// kind, and no layers in the trunk or in a branch. Branches are named in the options and called by
// index.
//
// A branch for text predicts the next token. A branch for codes predicts, at the token before an
// image position, the residual codes of that position. Image positions enter as a projection of the
// sum of their code vectors; where a sequence is only read, the projection of its branch of their
// semantic vectors is added, which a sequence that is being drawn cannot have.
//
// Layers and norm of a later branch of the first one's depth and sizes start as a copy of the first
// one's, so at first all of these compute the same.
class YModelImpl : public torch::nn::Module {
 public:
  explicit YModelImpl(const YModelOptions& options);

  const YModelOptions& options() const { return options_; }

  // Throws c10::Error naming the branches there are.
  int64_t branch_index(const std::string& name) const;

  // Hidden states of all rows after the branch's final norm, (N, width of the branch) in the
  // compute type.
  at::Tensor hidden(const TokenRows& rows, int64_t branch);
  // At every depth: the embeddings, then after each layer; the last after the final norm, as
  // hidden() returns it, in place of the last layer's.
  std::vector<at::Tensor> hidden_states(const TokenRows& rows, int64_t branch);
  at::Tensor embed(const TokenRows& rows, int64_t branch);  // (N, width) fp32
  // The heads, for rows of hidden states of their branch; throw where the branch has the other.
  at::Tensor text_logits(const at::Tensor& hidden_ND, int64_t branch);
  DepthTransformer& depth(int64_t branch);

  // Embeddings (batch * count rows) continue the sequences of the cache, each token seeing those
  // before it; returns their hidden states. The cache has cache_layers() layers. No gradients.
  at::Tensor step(const at::Tensor& embeddings, int64_t branch, KeyValueCache& cache,
                  int64_t count);
  int64_t cache_layers(int64_t branch) const;

  // Every parameter is in one of these groups.
  std::vector<at::Tensor> trunk_parameters() const;
  std::vector<at::Tensor> branch_parameters(int64_t branch) const;

  // After weights changed where autograd does not see it.
  void forget_cached_weights();

 private:
  BranchImpl& branch_at(int64_t branch) const;
  // Through the trunk and the layers of a branch; `layer` gives what each makes of the stream.
  template <class Layer>
  Residual through_layers(Residual residual, BranchImpl& arm, const Layer& layer);
  void build_branch(torch::nn::Module& group, const BranchOptions& branch);

  YModelOptions options_;
  RotaryTable rotary_;
  torch::nn::Embedding text_embedding_{nullptr};
  at::Tensor image_marks_, position_embedding_;
  Projector projector_{nullptr};
  torch::nn::ModuleList trunk_;
  std::vector<Branch> branches_;
  Linear tied_text_head_{nullptr};  // of the embedding's weight; no module of its own
};
TORCH_MODULE(YModel);

}  // namespace espalier
